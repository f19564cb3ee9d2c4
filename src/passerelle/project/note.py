"""Note: the scoping note, cadrage.md, as a page that cannot disagree with the settings and says how things stand.

The note is Markdown that people edit. Its figures are placeholders, ``{{ costs.missed }}``, read from passerelle.toml
when the page is made; text between backticks is left alone. HTML in it stays text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

import jinja2
import msgspec
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup

from passerelle.errors import SettingsError
from passerelle.project.plan import Line, draw, stand
from passerelle.project.scope import Acceptance, Stage
from passerelle.project.settings import Project
from passerelle.project.wording import Language, day, number, say, share

FILE = "cadrage.md"

#: Placeholders that are a chart or a table, and stand alone on their line.
BLOCKS = ("milestones", "acceptance")

_NOTHING = "\u2013"  # a dash, where there is no value


def render(project: Project, *, reached: Mapping[Stage, datetime], figures: Mapping[str, float], now: datetime) -> str:
    """The note as one HTML page that needs nothing else: no script, no font, no picture from elsewhere.

    ``reached`` is when each stage was first reached; ``figures`` are the champion's, by the names of [[acceptance]].
    Raises SettingsError, naming the line, if there is no note or it holds an unknown placeholder.
    """
    language = project.project.language
    lines = stand(project.milestones, reached, now)
    blocks = {
        "milestones": _plan(lines, now, language),
        "acceptance": _acceptance(project.acceptance, figures, language),
    }
    body, still_open = _body(_read(project), placeholders(project), blocks, say("open", language))
    title, mark, rest = body.partition("</h1>\n")
    title, body = (title + mark, rest) if title.startswith("<h1>") and mark else ("", body)
    template = jinja2.Template(
        files("passerelle.project").joinpath("templates/note.html").read_text(encoding="utf-8"), autoescape=True
    )
    page: str = template.render(
        name=project.name,
        language=language,
        heading=say("standing", language),
        standing=_standing(lines, project.acceptance, figures, still_open, language),
        title=Markup(title),  # noqa: S704  (as the body)
        body=Markup(body),  # noqa: S704  (made by markdown-it with HTML off, and by us from escaped text)
        footer=say("rendered", language, day=day(now.astimezone(UTC).date(), language)),
    )
    return page


def placeholders(project: Project) -> dict[str, str]:
    """What a note may quote of the settings: placeholder → its text in the project's language."""
    language = project.project.language
    task, gate, costs = project.task, project.gate, project.assumed_costs
    points = project.metric in ("auc", "accuracy")
    treated = [say(way, language, name=name) for name, way in sorted(project.privacy.items())]
    return {
        "project.name": project.name,
        "task.kind": say(task.kind, language),
        "task.target": task.target,
        "task.key": ", ".join(task.key),
        "task.time": task.time or say("no time", language),
        "task.unit": task.unit or say("each event", language),
        "task.lead_hours": number(task.lead_hours, language),
        "task.horizon_hours": number(task.horizon_hours, language),
        "task.holdout": say("last days", language, count=number(task.holdout_days, language))
        if task.time
        else say("share of keys", language, share=share(task.holdout_share, language)),
        "gate.metric": project.metric.replace("_", " "),
        "gate.margin": say("points", language, value=number(gate.margin, language))
        if points
        else share(gate.margin, language),
        "gate.refuse_above": number(gate.refuse_above, language),
        "costs.action": number(costs.action, language),
        "costs.missed": number(costs.missed, language),
        "costs.threshold": share(min(1.0, costs.action / costs.missed), language),
        "data.main": project.data.main,
        "data.outcomes": project.data.outcomes,
        "privacy": ", ".join(treated) or say("none", language),
    }


def open_questions(project: Project) -> int:
    """How many questions of the note are still marked as open; its errors are those of render."""
    marker = say("open", project.project.language)
    return _body(_read(project), placeholders(project), dict.fromkeys(BLOCKS, ""), marker)[1]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An acceptance figure as it stands."""

    acceptance: Acceptance
    value: float | None
    #: None while it is not measured, or has no bound.
    met: bool | None


def standing_of(acceptance: Acceptance, figures: Mapping[str, float]) -> Standing:
    """Is this figure reached? A value that is not a number meets nothing.

    >>> standing_of(Acceptance(name="AUC", figure="auc", at_least=0.7), {"auc": 0.7}).met
    True
    """
    value = figures.get(acceptance.figure)
    if value is None or (acceptance.at_least is None and acceptance.at_most is None):
        return Standing(acceptance=acceptance, value=value, met=None)
    low = acceptance.at_least is None or value >= acceptance.at_least
    high = acceptance.at_most is None or value <= acceptance.at_most
    return Standing(acceptance=acceptance, value=value, met=low and high)


def _read(project: Project) -> str:
    path = project.root / FILE
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SettingsError(
            f"there is no {path}: write one, or copy the one of a new project (passerelle new NAME)."
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 ({error}): save it as UTF-8 and try again.") from error


def _body(text: str, values: Mapping[str, str], blocks: Mapping[str, str], marker: str) -> tuple[str, int]:
    """The note's Markdown as HTML, and how many of its questions are still open."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")  # pictures are fetched
    markdown.inline.ruler.before("link", "placeholder", _placeholder)
    markdown.inline.ruler.before("link", "open_question", _open_question(marker))
    tokens, still_open = _filled(markdown.parse(text), values, blocks)
    rendered: str = markdown.renderer.render(tokens, markdown.options, {})
    return rendered, still_open


def _placeholder(state: StateInline, silent: bool) -> bool:  # noqa: FBT001  (markdown-it's signature)
    if not state.src.startswith("{{", state.pos):
        return False
    end = state.src.find("}}", state.pos)
    if end < 0 or end >= state.posMax or "\n" in state.src[state.pos : end]:
        return False
    if not silent:
        state.push("placeholder", "", 0).content = state.src[state.pos + 2 : end].strip()
    state.pos = end + 2
    return True


def _open_question(marker: str) -> Callable[[StateInline, bool], bool]:
    def rule(state: StateInline, silent: bool) -> bool:  # noqa: FBT001  (markdown-it's signature)
        if not state.src.startswith(marker, state.pos):
            return False
        if not silent:
            state.push("open_question", "", 0).content = marker
        state.pos += len(marker)
        return True

    return rule


def _filled(tokens: Sequence[Token], values: Mapping[str, str], blocks: Mapping[str, str]) -> tuple[list[Token], int]:
    """The tokens with every placeholder replaced, and how many open questions there are."""
    filled: list[Token] = []
    still_open = 0
    for token in tokens:
        if token.type == "table_open":
            filled.append(_html('<div class="scroll">'))
        filled.append(token)
        if token.type == "table_close":
            filled.append(_html("</div>"))
        children = token.children or []
        line = token.map[0] + 1 if token.map else 0
        for child in children:
            if child.type in ("softbreak", "hardbreak"):
                line += 1
            elif child.type == "open_question":
                still_open += 1
                _become(child, f"<mark>{escape(child.content)}</mark>")
            elif child.type == "placeholder":
                if child.content in blocks:
                    _refuse_company(child.content, children, filled, line)
                    _become(child, blocks[child.content])
                elif child.content in values:
                    tag = "code" if child.content.startswith(("task.t", "task.key", "data.")) else "span"
                    _become(child, f'<{tag} class="figure">{escape(values[child.content])}</{tag}>')
                else:
                    raise SettingsError(
                        f"{FILE}, line {line}: unknown placeholder {child.content!r}; "
                        f"there are {', '.join((*BLOCKS, *values))}."
                    )
    return filled, still_open


def _refuse_company(name: str, children: Sequence[Token], before: Sequence[Token], line: int) -> None:
    """A chart or a table is a paragraph of its own; its paragraph's marks are dropped."""
    opening = before[-2]
    if len(children) > 1 or opening.type != "paragraph_open":
        raise SettingsError(f"{FILE}, line {line}: {{{{ {name} }}}} must stand alone, between two empty lines.")
    opening.tag = "div"  # a paragraph may not hold a table


def _html(html: str) -> Token:
    return Token(type="html_block", tag="", nesting=0, content=html)


def _become(token: Token, html: str) -> None:
    token.type, token.content = "html_inline", html


def _plan(lines: Sequence[Line], now: datetime, language: Language) -> str:
    if not lines:
        return f"<p>{escape(say('no milestones', language))}</p>"
    rows = [
        (
            line.milestone.name,
            say("from to", language, start=day(line.milestone.start, language), end=day(line.milestone.end, language)),
            line.sentence(language),
        )
        for line in lines
    ]
    headings = [say(word, language) for word in ("milestone", "planned", "state")]
    return draw(lines, now, language) + _table(headings, rows, [line.state.replace(" ", "-") for line in lines])


def _acceptance(asked: Sequence[Acceptance], figures: Mapping[str, float], language: Language) -> str:
    if not asked:
        return f"<p>{escape(say('no acceptance', language))}</p>"
    standings = [standing_of(acceptance, figures) for acceptance in asked]
    rows = [
        (
            standing.acceptance.name,
            _NOTHING if standing.value is None else number(standing.value, language),
            _bound(standing.acceptance, language),
            _met(standing, language),
        )
        for standing in standings
    ]
    css = {True: "reached", False: "late", None: "to-come"}
    headings = [say(word, language) for word in ("figure", "value", "bound", "state")]
    return _table(headings, rows, [css[standing.met] for standing in standings])


def _bound(acceptance: Acceptance, language: Language) -> str:
    bounds = [("at least", acceptance.at_least), ("at most", acceptance.at_most)]
    said = [say(word, language, value=number(value, language)) for word, value in bounds if value is not None]
    return ", ".join(said) or say("no bound", language)


def _met(standing: Standing, language: Language) -> str:
    if standing.value is None:
        return say("not measured", language)
    return _NOTHING if standing.met is None else say("met" if standing.met else "not met", language)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], css: Sequence[str]) -> str:
    """A table whose last column is a state."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[:-1])
        + f'<td><span class="chip {name}">{escape(row[-1])}</span></td></tr>'
        for row, name in zip(rows, css, strict=True)
    )
    return f'<table class="own"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _standing(
    lines: Sequence[Line],
    asked: Sequence[Acceptance],
    figures: Mapping[str, float],
    still_open: int,
    language: Language,
) -> str:
    """Where the project stands, in a few sentences: what a reader with one minute wants to know."""
    said = []
    if lines:
        reached = [line for line in lines if line.state == "reached"]
        late = [line.milestone.name for line in lines if line.state == "late"]
        coming = [line.milestone for line in lines if line.state in ("under way", "to come")]
        said.append(say("reached count", language, reached=len(reached), total=len(lines)))
        if late:
            said.append(say("late list", language, names=", ".join(late)))
        elif coming:
            said.append(say("nothing late", language))
        if coming:
            due = min(coming, key=lambda milestone: milestone.end)
            said.append(say("next", language, name=due.name, day=day(due.end, language)))
        elif not late:
            said.append(say("all reached", language))
    else:
        said.append(say("no milestones", language))
    if not figures:
        said.append(say("no version", language))
    elif asked:
        standings = [standing_of(acceptance, figures) for acceptance in asked]
        said.append(say("met count", language, met=sum(v.met is True for v in standings), total=len(standings)))
        missed = [
            f"{v.acceptance.name} {number(v.value, language)} ({_bound(v.acceptance, language)})"
            for v in standings
            if v.met is False and v.value is not None
        ]
        if missed:
            said.append(say("missed list", language, names="; ".join(missed)))
    if still_open:
        said.append(say("open one" if still_open == 1 else "open many", language, count=still_open))
    else:
        said.append(say("all answered", language))
    return " ".join(said)
