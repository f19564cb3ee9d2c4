"""The scoping note: figures come from the settings, states from the project, and nothing from anywhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from passerelle.errors import SettingsError
from passerelle.project.note import open_questions, placeholders, render, standing_of
from passerelle.project.scope import Acceptance, Stage
from passerelle.project.settings import Project, load_project

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
SETTINGS = """
[project]
name = "churn"
language = "{language}"
[task]
kind = "binary"
target = "churned"
key = ["customer", "month"]
time = "month_end"
holdout_days = 28
[costs]
action = 1.5
missed = 6
[privacy]
email = "drop"
address = "hash"
[[milestones]]
name = "Note agreed"
start = 2026-03-02
end = 2026-03-06
stage = "scoped"
[[milestones]]
name = "Data accepted"
start = 2026-03-02
end = 2026-03-09
stage = "data"
[[milestones]]
name = "First version"
start = 2026-03-09
end = 2026-03-18
stage = "trained"
[[milestones]]
name = "Deployed <soon>"
start = 2026-03-16
end = 2026-03-27
stage = "deployed"
[[milestones]]
name = "Judged"
start = 2026-04-01
end = 2026-05-01
stage = "judged"
[[acceptance]]
name = "AUC"
figure = "auc"
at_least = 0.7
[[acceptance]]
name = "Cost"
figure = "cost"
at_most = 0.9
[[acceptance]]
name = "Parity"
figure = "parity_max_abs_diff"
at_most = 1e-12
"""
REACHED: dict[Stage, datetime] = {
    "scoped": datetime(2026, 3, 5, tzinfo=UTC),
    "data": datetime(2026, 3, 11, 23, tzinfo=UTC),
}


@pytest.fixture
def project_with(tmp_path: Path) -> Callable[..., Project]:
    def make(note: str, language: str = "en", settings: str = SETTINGS) -> Project:
        (tmp_path / "passerelle.toml").write_text(settings.replace("{language}", language), encoding="utf-8")
        (tmp_path / "cadrage.md").write_text(note, encoding="utf-8")
        return load_project(tmp_path / "passerelle.toml")

    return make


def page_of(
    project: Project,
    *,
    reached: Mapping[Stage, datetime] = REACHED,
    figures: Mapping[str, float] | None = None,
    now: datetime = NOW,
) -> str:
    return render(project, reached=reached, figures=figures or {}, now=now)


def text_of(page: str) -> str:
    """The words of a page's body, in order."""
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", page.partition("<body>")[2]))


def test_figures_are_those_of_the_settings(project_with: Callable[..., Project]) -> None:
    note = (
        "Act: {{ costs.action }}, miss: {{costs.missed}}, from {{ costs.threshold }}; {{ task.holdout }}; {{ privacy }}"
    )
    page = page_of(project_with(note))
    assert "Act: 1.5 , miss: 6 , from 25% ; last 28 days ; address hashed, email dropped" in text_of(page)
    french = page_of(project_with(note, "fr"))
    assert "Act: 1,5 , miss: 6 , from 25\u202f% ; 28 derniers jours ; address hachée, email supprimée" in text_of(
        french
    )


def test_every_placeholder_that_there_is_can_be_used(project_with: Callable[..., Project]) -> None:
    names = list(placeholders(project_with("")))
    page = page_of(project_with("\n\n".join(f"{{{{ {name} }}}}" for name in names)))
    assert page.count('class="figure"') == len(names) == 18
    assert "{{" not in page


def test_an_unknown_placeholder_names_its_line_and_what_there_is(project_with: Callable[..., Project]) -> None:
    project = project_with("# T\n\nfine {{ costs.missed }}\nand {{ costs.mised }}\n")
    with pytest.raises(
        SettingsError, match=r"line 4: unknown placeholder 'costs.mised'; there are milestones, .*costs.missed"
    ):
        page_of(project)


def test_an_unknown_placeholder_in_a_table_and_in_a_list_names_its_line(project_with: Callable[..., Project]) -> None:
    with pytest.raises(SettingsError, match="line 4: unknown placeholder 'x'"):
        page_of(project_with("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | {{ x }} |\n"))
    with pytest.raises(SettingsError, match="line 3: unknown placeholder ''"):
        page_of(project_with("- a\n- b\n- {{ }}\n"))


@pytest.mark.parametrize("note", ["See {{ milestones }}.", "# {{ acceptance }}", "a\n{{ milestones }}"])
def test_a_chart_stands_alone(project_with: Callable[..., Project], note: str) -> None:
    with pytest.raises(SettingsError, match="must stand alone, between two empty lines"):
        page_of(project_with(note))


def test_text_between_backticks_is_left_alone(project_with: Callable[..., Project]) -> None:
    page = page_of(project_with("Write `{{ costs.mised }}` and `[to answer]`."))
    assert "<code>{{ costs.mised }}</code>" in page
    assert "Every question of this note is answered." in page


def test_the_first_paragraph_says_where_the_project_stands(project_with: Callable[..., Project]) -> None:
    project = project_with("# Churn\n\n[to answer] and [to answer]\n")
    figures = {"auc": 0.6812, "cost": 0.85, "parity_max_abs_diff": 4.4e-16}
    text = text_of(page_of(project, figures=figures))
    assert open_questions(project) == 2
    assert text.startswith(
        " Churn Where the project stands 2 of 5 milestones reached. Late: First version. "
        "Next: Deployed &lt;soon&gt;, due on 27 March 2026. 2 of 3 acceptance figures met. "
        "Not yet: AUC 0.6812 (at least 0.7). 2 questions of this note are still open. "
    )


def test_the_first_paragraph_before_and_after_everything(project_with: Callable[..., Project]) -> None:
    project = project_with("Done.")
    before = text_of(page_of(project, reached={}, now=datetime(2026, 3, 1, tzinfo=UTC)))
    assert (
        "0 of 5 milestones reached. Nothing is late. Next: Note agreed, due on 6 March 2026. No version has" in before
    )
    stages: tuple[Stage, ...] = ("scoped", "data", "trained", "deployed", "judged")
    late = dict.fromkeys(stages, datetime(2026, 5, 1, 23, tzinfo=UTC))
    after = text_of(page_of(project, reached=late, now=datetime(2027, 1, 1, tzinfo=UTC)))
    assert "5 of 5 milestones reached. The plan is complete." in after
    assert "Every question of this note is answered." in after


def test_each_milestone_says_its_state(project_with: Callable[..., Project]) -> None:
    text = text_of(page_of(project_with("{{ milestones }}")))
    for sentence in (
        "reached on 5 March 2026",
        "reached on 11 March 2026, 2 days late",
        "late by 2 days: it was due on 18 March 2026",
        "under way, due on 27 March 2026",
        "starts on 1 April 2026",
        "today, 20 March 2026",
    ):
        assert sentence in text
    french = text_of(page_of(project_with("{{ milestones }}", "fr")))
    assert "atteint le 11 mars 2026, avec 2 jours de retard" in french
    assert "commence le 1er avril 2026" in french


def test_the_chart_has_bars_where_the_dates_are(project_with: Callable[..., Project]) -> None:
    page = page_of(project_with("{{ milestones }}"))
    # The plan spans 2 March to 1 May, both days included: 61 days.
    bars = re.findall(r'<rect class="bar ([\w-]+)" x="([\d.]+)%" y="\d+" width="([\d.]+)%"', page)
    assert [(css, float(x), float(width)) for css, x, width in bars] == [
        ("reached", 0.0, pytest.approx(500 / 61, abs=0.01)),
        ("reached", 0.0, pytest.approx(800 / 61, abs=0.01)),
        ("late", pytest.approx(700 / 61, abs=0.01), pytest.approx(1000 / 61, abs=0.01)),
        ("under-way", pytest.approx(1400 / 61, abs=0.01), pytest.approx(1200 / 61, abs=0.01)),
        ("to-come", pytest.approx(3000 / 61, abs=0.01), pytest.approx(3100 / 61, abs=0.01)),
    ]
    today = re.findall(r'<line class="today" x1="([\d.]+)%"', page)
    assert float(today[0]) == pytest.approx(1800 / 61, abs=0.01)


def test_acceptance_shows_value_bound_and_whether_it_is_met(project_with: Callable[..., Project]) -> None:
    page = page_of(project_with("{{ acceptance }}"), figures={"auc": 0.75, "cost": 0.91})
    rows = [re.findall(r"<td>(?:<span[^>]*>)?([^<]*)", row) for row in re.findall(r"<tr><td>.*?</tr>", page)]
    assert rows == [
        ["AUC", "0.75", "at least 0.7", "met"],
        ["Cost", "0.91", "at most 0.9", "not yet"],
        ["Parity", "\u2013", "at most 1e-12", "not measured yet"],
    ]


def test_a_figure_that_is_not_a_number_meets_nothing() -> None:
    nan = float("nan")
    assert standing_of(Acceptance(name="a", figure="f", at_least=0.0), {"f": nan}).met is False
    assert standing_of(Acceptance(name="a", figure="f", at_most=1.0), {"f": nan}).met is False
    assert standing_of(Acceptance(name="a", figure="f", at_least=1.0, at_most=2.0), {"f": 2.0}).met is True
    assert standing_of(Acceptance(name="a", figure="f", at_least=1.0, at_most=2.0), {"f": 2.1}).met is False
    assert standing_of(Acceptance(name="a", figure="f"), {"f": 2.1}).met is None


def test_untrusted_text_stays_text(project_with: Callable[..., Project]) -> None:
    note = "# <script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n[x](javascript:alert(1)) ![p](http://e.example/p.png)\n"
    page = page_of(project_with(note + "\n{{ milestones }}\n"), figures={})
    tags = {tag for tag, _ in tags_of(page)}
    assert tags & {"script", "img", "iframe", "object", "link"} == set()
    assert "&lt;script&gt;" in page
    assert "Deployed &lt;soon&gt;" in page
    assert 'href="javascript' not in page


def tags_of(page: str) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            found.append((tag, dict(attrs)))

    Reader().feed(page)
    return found


def test_the_page_needs_nothing_from_elsewhere(project_with: Callable[..., Project]) -> None:
    page = page_of(project_with("{{ milestones }}\n\n{{ acceptance }}\n"))
    assert not [attrs for _, attrs in tags_of(page) if attrs.keys() & {"src", "srcset", "href", "action"}]
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert '<html lang="en">' in page


def test_no_note_and_a_note_in_another_encoding_say_what_to_do(project_with: Callable[..., Project]) -> None:
    project = project_with("x")
    (project.root / "cadrage.md").write_bytes("é".encode("latin-1"))
    with pytest.raises(SettingsError, match="not UTF-8"):
        page_of(project)
    (project.root / "cadrage.md").unlink()
    with pytest.raises(SettingsError, match="passerelle new NAME"):
        page_of(project)


def test_a_project_without_plan_says_so(project_with: Callable[..., Project]) -> None:
    bare = '[project]\nname = "churn"\n[task]\nkind = "binary"\ntarget = "y"\nkey = ["id"]\n'
    text = text_of(page_of(project_with("{{ milestones }}\n\n{{ acceptance }}", settings=bare), figures={"auc": 0.7}))
    assert text.count("No milestone is planned yet.") == 2
    assert "No acceptance figure is set in passerelle.toml." in text
