"""Plan: the milestones of a project, their states, and the Gantt chart that shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from html import escape
from typing import Literal

import msgspec

from passerelle.project.scope import Milestone, Stage
from passerelle.project.wording import Language, day, days, month, say

State = Literal["reached", "late", "under way", "to come"]

_LABEL_WIDTH = 40
_LINE_PX = 18
_BAR_PX = 10
_ROW_PX = 66
_HEAD_PX = 26
_FOOT_PX = 24
#: Percents of the width that a month's name takes on a phone, and that text needs at each side.
_TICK_ROOM = 24.0
_EDGE = 12.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A milestone as it stands: what the plan says of it, and what has become of it."""

    milestone: Milestone
    state: State
    #: The day it was reached, in UTC; None if it is not.
    reached: date | None
    #: Days after its end: when it was reached, or so far.
    late_days: int

    def sentence(self, language: Language) -> str:
        """Its state in words."""
        start, end = day(self.milestone.start, language), day(self.milestone.end, language)
        late = days(self.late_days, language)
        if self.reached is not None:
            phrase = "reached late" if self.late_days else "reached"
            return say(phrase, language, day=day(self.reached, language), days=late)
        return say(self.state, language, start=start, day=end, days=late)


def stand(milestones: Sequence[Milestone], reached: Mapping[Stage, datetime], now: datetime) -> list[Line]:
    """Each milestone as it stands now; one that was reached stays reached, late or not.

    >>> plan = [Milestone(name="Data", start=date(2026, 1, 5), end=date(2026, 1, 9), stage="data")]
    >>> stand(plan, {}, datetime(2026, 1, 12, tzinfo=UTC))[0].sentence("en")
    'late by 3 days: it was due on 9 January 2026'
    """
    today = now.astimezone(UTC).date()
    return [_stand(milestone, reached.get(milestone.stage), today) for milestone in milestones]


def _stand(milestone: Milestone, reached: datetime | None, today: date) -> Line:
    there = None if reached is None else reached.astimezone(UTC).date()
    late_days = max(0, ((there or today) - milestone.end).days)
    state: State
    if there is not None:
        state = "reached"
    elif late_days:
        state = "late"
    else:
        state = "under way" if milestone.start <= today else "to come"
    return Line(milestone=milestone, state=state, reached=there, late_days=late_days)


def draw(lines: Sequence[Line], now: datetime, language: Language) -> str:
    """The Gantt chart as SVG: bars by date, a dot where a milestone was reached, and a line at today.

    Its width is its container's and its text keeps its size, so that it reads on a phone as on a laptop. It has no
    colours of its own: the page's style gives them by class.
    """
    today = now.astimezone(UTC).date()
    first = min(*(line.milestone.start for line in lines), today)
    last = max(*(line.milestone.end for line in lines), *(line.reached or first for line in lines), today)
    scale = _Scale(first, last + timedelta(days=1))
    rows, top = [], _HEAD_PX
    for line in lines:
        drawn, height = _row(line, scale, top, language)
        rows += drawn
        top += height
    at = scale.percent(today)
    ticks = [*_ticks(scale, top, language)]
    label = escape(say("plan", language, count=len(lines)))
    return "\n".join(
        [
            f'<svg class="gantt" width="100%" height="{top + _FOOT_PX}" role="img" aria-label="{label}">',
            *ticks,
            f'<line class="today" x1="{at:.2f}%" x2="{at:.2f}%" y1="{_HEAD_PX - 6}" y2="{top}"/>',
            _text(at, 14, f"{say('today', language)}, {day(today, language)}", "today"),
            *rows,
            "</svg>",
        ]
    )


class _Scale:
    """Days → percents of the width."""

    def __init__(self, first: date, end: date) -> None:
        self.first, self.end = first, end

    def percent(self, moment: date) -> float:
        return 100 * (moment - self.first).days / (self.end - self.first).days


def _row(line: Line, scale: _Scale, top: int, language: Language) -> tuple[list[str], int]:
    milestone = line.milestone
    names = textwrap.wrap(milestone.name, _LABEL_WIDTH) or [""]
    drawn = [_text(0, top + 14 + _LINE_PX * index, name, "name") for index, name in enumerate(names)]
    below = top + _LINE_PX * len(names)
    drawn.append(_text(0, below + 12, line.sentence(language), f"state {_css(line.state)}"))
    left, right = scale.percent(milestone.start), scale.percent(milestone.end + timedelta(days=1))
    bar = below + 20
    drawn.append(
        f'<rect class="bar {_css(line.state)}" x="{left:.2f}%" y="{bar}" width="{max(right - left, 0.5):.2f}%" '
        f'height="{_BAR_PX}" rx="3"/>'
    )
    if line.reached is not None:
        drawn.append(f'<circle class="dot" cx="{scale.percent(line.reached):.2f}%" cy="{bar + 5}" r="5"/>')
    return drawn, _ROW_PX + _LINE_PX * (len(names) - 1)


def _ticks(scale: _Scale, bottom: int, language: Language) -> Iterator[str]:
    last = -_TICK_ROOM
    for moment in _months(scale):
        at = scale.percent(moment)
        if at - last < _TICK_ROOM or at > 100 - _EDGE:
            continue
        last = at
        yield f'<line class="grid" x1="{at:.2f}%" x2="{at:.2f}%" y1="{_HEAD_PX}" y2="{bottom}"/>'
        yield _text(at, bottom + 16, month(moment, language), "tick")


def _months(scale: _Scale) -> Iterator[date]:
    moment = scale.first.replace(day=1)
    while moment < scale.end:
        if moment >= scale.first:
            yield moment
        moment = (moment + timedelta(days=32)).replace(day=1)


def _text(at: float, y: int, text: str, css: str) -> str:
    """Text at a percent of the width, kept inside it."""
    anchor = "start" if at < _EDGE else "end" if at > 100 - _EDGE else "middle"
    if css.split(maxsplit=1)[0] in ("name", "state"):
        anchor = "start"
    return f'<text class="{css}" x="{at:.2f}%" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _css(state: State) -> str:
    return state.replace(" ", "-")
