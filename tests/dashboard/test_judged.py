"""Days that say nothing: too few rows, no outcomes, nothing that answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import lived
import msgspec
import pytest

from passerelle.dashboard.lists import INPUT_ROWS, LOSS_ROWS, alerts_page, losses
from passerelle.dashboard.pages import path_page
from passerelle.dashboard.reading import Reader, Seen
from passerelle.monitoring import drift, performance
from passerelle.monitoring.windows import Window
from passerelle.project.settings import Project


@pytest.fixture
def seen(project: Project) -> Seen:
    return msgspec.structs.replace(Reader(project, "production").read(), alerts=())


def measured(seen: Seen, watch: str, *values: dict[str, Any]) -> Seen:
    """The same, with these days measured and no other."""
    days = tuple(
        Window(start=lived.YEAR + number * timedelta(days=1), watch=watch, value=value)
        for number, value in enumerate(values)
    )
    return msgspec.structs.replace(seen, windows={watch: days})


def first_line(seen: Seen) -> str:
    return alerts_page(seen, now=lived.NOW).sentence


def day(rows: int, *, judged: bool = False) -> dict[str, Any]:
    return {"rows": rows, "loss": 0.2 if rows else None, "in_control": True if judged else None}


def test_the_limits_are_those_of_monitoring() -> None:
    assert vars(performance)["_FEWEST_ROWS"] == LOSS_ROWS
    assert drift.FEWEST_ROWS == INPUT_ROWS


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ((day(12),) * 5, "No alert has opened, but the loss is not judged: 12 events a day, 20 are needed."),
        ((day(0),) * 5, "No alert has opened, but the loss is not judged: no outcomes yet."),
        ((), "No alert has opened, but the loss is not judged: no outcomes yet."),
        ((day(90), *(day(0),) * 7), "No alert has opened, but the loss is not judged: no outcomes of late."),
        (
            (day(90),) * 2,
            "No alert has opened, but the loss is not judged yet: too few days came before to compare with.",
        ),
        ((day(12), day(90, judged=True)), "Nothing is wrong, and nothing has been: no alert has opened."),
    ],
)
def test_quiet_that_says_nothing_is_not_called_well(seen: Seen, days: tuple[dict[str, Any], ...], told: str) -> None:
    assert first_line(measured(seen, "performance", *days)) == told


def test_nothing_is_watched_before_something_answers(seen: Seen) -> None:
    waiting = msgspec.structs.replace(seen, revisions=())
    assert first_line(waiting) == "No alert has opened, but no version answers yet, so nothing is watched."


def test_days_without_outcomes_are_neither_drawn_nor_listed(seen: Seen) -> None:
    some = measured(seen, "performance", day(0), day(12), day(0))
    assert [one.rows for one in losses(some)] == [12]
    assert alerts_page(some, now=lived.NOW).losses == losses(some)
    none = measured(seen, "performance", day(0))
    watch = path_page(none, now=lived.NOW).stations[-1]
    assert (watch.standing, watch.sentence) == ("waiting", "no alert so far; no outcomes yet")


def test_a_stability_index_of_few_events_is_not_shown(seen: Seen) -> None:
    few, many = {"rows": 12, "stability": {"temp": 7.9}}, {"rows": 400, "stability": {"temp": 0.1}}
    page = alerts_page(measured(seen, "input_drift", many, few), now=lived.NOW)
    assert (page.drift_rows, page.drift[0].last, page.drift[0].most) == (12, None, 0.1)
    page = alerts_page(measured(seen, "input_drift", few, many), now=lived.NOW)
    assert (page.drift_rows, page.drift[0].last, page.drift[0].most) == (400, 0.1, 0.1)
    assert alerts_page(measured(seen, "input_drift", few), now=lived.NOW).drift[0].most is None
