"""Saying: how far the tour is, for who watches: a bar on a terminal, a line a week elsewhere; and what happens."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import events

#: Of the timeline, what a person who watches wants to hear of.
_TOLD = {"delivery", "decision", "gate", "loop", "trial", "verdict", "deployment", "alert"}
_WEEK = timedelta(days=7)


class Saying:
    """Speaks on stderr, so that --json stays clean."""

    def __init__(self, *, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:,.0f} events"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._said_at: datetime | None = None
        self._sent = 0
        self._heard = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def skip(self, project: Project) -> None:
        """What the timeline holds already was said by an earlier attempt."""
        self._heard = len(events(open_state(project.state)))

    def say(self, text: str) -> None:
        """A line."""
        self._console.print(text, markup=False)

    def step(self, number: int, total: int, what: str) -> None:
        """A cell of the notebook runs."""
        self._bar.update(self._task, description=f"cell {number}/{total} {what[:40]}")
        if not self._console.is_terminal:
            self.say(f"  cell {number}/{total}  {what[:80]}")

    def at(self, moment: datetime, events_sent: int) -> None:
        """So many more events go out at this moment of the lived time."""
        self._sent += events_sent
        self._bar.update(self._task, description=f"{moment:%d %B %Y}", completed=self._sent)
        if not self._console.is_terminal and (self._said_at is None or moment - self._said_at >= _WEEK):
            self._said_at = moment
            self.say(f"  {self._sent:,} events, {moment:%d %B %Y}")

    def told(self, project: Project, now: datetime) -> None:
        """What the timeline has got since the last time."""
        happened = events(open_state(project.state))
        fresh, self._heard = happened[self._heard :], len(happened)
        for event in fresh:
            refused = event.kind == "run" and "no version was made" in event.sentence
            if (event.kind in _TOLD or refused) and event.at <= now:
                self.say(f"{event.at:%d %B}  {event.kind}: {event.sentence}")
