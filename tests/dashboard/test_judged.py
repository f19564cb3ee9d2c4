"""Days that say nothing: too few rows, no outcomes, nothing that answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import lived
import msgspec
import pytest

from passerelle.dashboard.lists import alerts_page, losses
from passerelle.dashboard.pages import path_page
from passerelle.dashboard.reading import Reader, Seen
from passerelle.dashboard.unjudged import INPUT_ROWS, LOSS_DAYS, LOSS_ROWS
from passerelle.monitoring import drifting, performance
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
    assert drifting.FEWEST_ROWS == INPUT_ROWS
    assert performance.FEWEST == LOSS_DAYS


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ((day(12),) * 5, "No alert has opened, but the loss is not judged: 12 events a day, 20 are needed."),
        ((day(0),) * 5, "No alert has opened, but the loss is not judged yet: no mature day has an outcome."),
        ((), "No alert has opened, but the loss is not judged yet: no day is mature."),
        ((day(90), *(day(0),) * 7), "No alert has opened, but the loss is not judged: no outcomes of late."),
        (
            (day(90),) * 2,
            "No alert has opened, but the loss is not judged yet: 2 mature days, and it takes 5 to compare with.",
        ),
        (
            (*(day(900, judged=True),) * 9, *(day(25),) * 7),
            "No alert has opened, but the loss is not judged: far fewer outcomes a day than were usual.",
        ),
        ((day(12), day(90, judged=True)), "Nothing is wrong, and nothing has been: no alert has opened."),
    ],
)
def test_quiet_that_says_nothing_is_not_called_well(seen: Seen, days: tuple[dict[str, Any], ...], told: str) -> None:
    assert first_line(measured(seen, "performance", *days)) == told


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ((), "the loss is not judged yet: no day is mature"),
        ((day(0),), "the loss is not judged yet: no mature day has an outcome"),
        ((day(90),), "the loss is not judged yet: 1 mature day, and it takes 5 to compare with"),
        ((day(12),) * 5, "the loss is not judged: 12 events a day, 20 are needed"),
    ],
)
def test_the_page_of_now_does_not_say_that_nothing_is_wrong_while_the_loss_is_not_judged(
    seen: Seen, days: tuple[dict[str, Any], ...], told: str
) -> None:
    page = path_page(measured(seen, "performance", *days), now=lived.NOW)
    assert page.sentence.endswith(f"; no alert is open, but {told}.")
    assert (page.stations[-1].standing, page.stations[-1].sentence) == ("waiting", f"no alert so far; {told}")
    judged = path_page(measured(seen, "performance", *(day(90),) * 5, day(90, judged=True)), now=lived.NOW)
    assert judged.sentence.endswith("; nothing is wrong.")
    assert (judged.stations[-1].standing, judged.stations[-1].sentence) == ("done", "no alert so far")


def test_beside_an_alert_on_something_else_the_loss_that_is_not_judged_is_said_too(project: Project) -> None:
    lived_ = Reader(project, "production").read()
    page = path_page(measured(lived_, "performance", day(0)), now=lived.NOW)
    told = "the loss is not judged yet: no mature day has an outcome"
    assert page.sentence.endswith(f"; 1 alert is open (input drift), and {told}.")
    loud = tuple(msgspec.structs.replace(one, watch="performance") for one in lived_.alerts)
    loud_page = path_page(measured(msgspec.structs.replace(lived_, alerts=loud), "performance", day(0)), now=lived.NOW)
    assert loud_page.sentence.endswith("; 1 alert is open (performance).")
    closed = tuple(one for one in lived_.alerts if one.closed_at)
    quiet = path_page(measured(msgspec.structs.replace(lived_, alerts=closed), "performance", day(0)), now=lived.NOW)
    assert quiet.stations[-1].sentence == f"quiet since 13 March; {told}"
    assert quiet.stations[-1].standing == "waiting"


def test_nothing_is_watched_before_something_answers(seen: Seen) -> None:
    waiting = msgspec.structs.replace(seen, revisions=())
    assert first_line(waiting) == "No alert has opened, but no version answers yet, so nothing is watched."


def test_days_without_outcomes_are_neither_drawn_nor_listed(seen: Seen) -> None:
    some = measured(seen, "performance", day(0), day(12), day(0))
    assert [one.rows for one in losses(some)] == [12]
    assert alerts_page(some, now=lived.NOW).losses == losses(some)
    none = measured(seen, "performance", day(0))
    watch = path_page(none, now=lived.NOW).stations[-1]
    assert (watch.standing, watch.sentence) == (
        "waiting",
        "no alert so far; the loss is not judged yet: no mature day has an outcome",
    )


def test_a_stability_index_of_few_events_is_not_shown(seen: Seen) -> None:
    few, many = {"rows": 12, "stability": {"temp": 7.9}}, {"rows": 400, "stability": {"temp": 0.1}}
    page = alerts_page(measured(seen, "input_drift", many, few), now=lived.NOW)
    assert (page.drift_rows, page.drift[0].last, page.drift[0].most) == (12, None, 0.1)
    page = alerts_page(measured(seen, "input_drift", few, many), now=lived.NOW)
    assert (page.drift_rows, page.drift[0].last, page.drift[0].most) == (400, 0.1, 0.1)
    assert alerts_page(measured(seen, "input_drift", few), now=lived.NOW).drift[0].most is None
