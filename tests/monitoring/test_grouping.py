"""One cause is one message, and no page is ever left unsaid."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from watched import make_project

from passerelle.monitoring.alerts import Alert, Finding, find_alerts, grouped, settle
from passerelle.monitoring.grouping import CHAINS, Began, chain_of, joins, place_of
from passerelle.monitoring.handling import silence, speak
from passerelle.monitoring.rules import DEFAULTS
from passerelle.monitoring.silences import is_silenced
from passerelle.project.settings import Project, Watch
from passerelle.state import tables
from passerelle.state.database import open_state, writing

NOW = datetime(2013, 7, 3, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ONE = '[alerts]\nchannels = ["ONE"]\n'
_PLACES = itertools.count()
WATCHES: tuple[Watch, ...] = get_args(Watch)


def _fire(
    project: Project,
    watch: Watch,
    *,
    now: datetime = NOW,
    day: datetime | None = None,
    state: str = "firing",
    alone: bool = False,
) -> Alert | None:
    finding = Finding(state=state, sentence=f"{watch} is wrong.", day=day, alone=alone)  # type: ignore[arg-type]
    with writing(open_state(project.state)) as connection:
        return settle(connection, "production", DEFAULTS[watch], finding, now=now, channels=("ONE",))


def messages(project: Project) -> list[tuple[str, str]]:
    """The title and the body of every message, in the order in which they were put out."""
    table = tables.outbox
    with open_state(project.state).connect() as connection:
        rows = connection.execute(sa.select(table.c.title, table.c.body).order_by(table.c.at, table.c.id))
        return [(row.title, row.body) for row in rows]


def _opened(alert: Alert | None) -> Alert:
    assert alert is not None
    return alert


def test_chains_hold_each_watch_once() -> None:
    inside = [watch for watches in CHAINS.values() for watch in watches]
    assert len(inside) == len(set(inside)) == 7
    assert {chain_of(watch) for watch in set(WATCHES) - set(inside)} == {"quarantine", "ledger", "loop"}


@given(st.sampled_from(WATCHES), st.sampled_from(WATCHES), st.integers(-200, 200), st.booleans(), st.booleans())
def test_joining_is_mutual_near_and_within_a_chain(a: Watch, b: Watch, hours: int, day: bool, other: bool) -> None:  # noqa: FBT001  (Hypothesis's signature)
    first = Began(watch=a, at=NOW, by_day=day)
    second = Began(watch=b, at=NOW + timedelta(hours=hours), by_day=other)
    assert joins(first, second) == joins(second, first)
    near = abs(hours) <= (48 if day or other else 1)
    assert joins(first, second) == (a != b and chain_of(a) == chain_of(b) and near)


def test_causes_come_before_what_follows() -> None:
    assert sorted(("performance", "score_drift", "input_drift"), key=place_of) == [
        "input_drift",
        "score_drift",
        "performance",
    ]


def test_errors_and_slowness_of_one_revision_are_one_message_that_names_both(tmp_path: Path) -> None:
    project = make_project(tmp_path, ONE)
    slow = _opened(_fire(project, "latency"))
    failing = _opened(_fire(project, "errors", now=NOW + timedelta(minutes=3)))
    assert (slow.group, slow.told, failing.group, failing.told) == ("", True, slow.id, False)
    [(title, body)] = messages(project)
    assert title == "production: errors, latency"
    assert body == (
        f"latency is wrong.\nBegan together: errors ({failing.id}): errors is wrong.\n"
        f"Next: {DEFAULTS['errors'].action}\nThen: {DEFAULTS['latency'].action}"
    )
    assert [
        [one.watch for one in group] for group in grouped(find_alerts(open_state(project.state), "production"))
    ] == [["latency", "errors"]]


def test_what_is_not_over_is_said_with_what_is(tmp_path: Path) -> None:
    """The page that joined is told then, and its own end later, too."""
    project = make_project(tmp_path, ONE)
    _fire(project, "silence")
    less = _opened(_fire(project, "volume", now=NOW + DAY / 2, day=NOW - DAY / 2))
    assert not less.told
    _fire(project, "silence", now=NOW + DAY, state="quiet")
    action = DEFAULTS["volume"].action
    assert messages(project)[1:] == [
        (
            "production: silence is over",
            f"over: silence is wrong.\nNot over: volume ({less.id}): volume is wrong.\nNext: {action}",
        )
    ]
    speak(project, "production", now=NOW + DAY)
    assert len(messages(project)) == 2
    _fire(project, "volume", now=NOW + 2 * DAY, day=NOW + DAY, state="quiet")
    assert messages(project)[2][0] == "production: volume is over"


def test_a_page_that_joined_and_ended_first_sends_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path, ONE)
    _fire(project, "errors")
    _fire(project, "latency")
    _fire(project, "latency", now=NOW + DAY, state="quiet")
    _fire(project, "errors", now=NOW + DAY, state="quiet")
    assert [title for title, _ in messages(project)] == ["production: errors, latency", "production: errors is over"]


def test_a_page_after_a_ticket_calls_and_names_what_began_with_it(tmp_path: Path) -> None:
    project = make_project(tmp_path, ONE)
    changed = _opened(_fire(project, "input_drift", day=NOW))
    assert messages(project) == []
    worse = _opened(_fire(project, "performance", now=NOW + 2 * DAY, day=NOW + DAY))
    assert (worse.group, worse.told) == (changed.id, True)
    [(title, body)] = messages(project)
    assert title == "production: performance"
    assert (
        f"Began together: input_drift ({changed.id}): input_drift is wrong.\nNext: Ask the owner of the fields" in body
    )


def test_a_storm_long_after_a_drift_is_another_matter(tmp_path: Path) -> None:
    """The drift stays open for two weeks: what begins meanwhile is not explained by it."""
    project = make_project(tmp_path, ONE)
    _fire(project, "input_drift", day=NOW)
    storm = _opened(_fire(project, "performance", now=NOW + 7 * DAY, day=NOW + 5 * DAY))
    assert (storm.group, storm.told, len(messages(project))) == ("", True, 1)


def test_only_what_began_together_covers(tmp_path: Path) -> None:
    """Each joins the one before it, and the third began four days after the first, which alone was sent."""
    project = make_project(tmp_path, ONE)
    pages = {watch: msgspec.structs.replace(DEFAULTS[watch], level="page") for watch in CHAINS["inputs"]}
    told = []
    for number, watch in enumerate(CHAINS["inputs"]):
        found = Finding(state="firing", sentence="!", day=NOW + 2 * number * DAY)
        with writing(open_state(project.state)) as connection:
            opened = settle(
                connection, "production", pages[watch], found, now=NOW + 3 * number * DAY, channels=("ONE",)
            )
        told.append(_opened(opened).told)
    assert told == [True, False, True]


def test_what_nothing_else_explains_joins_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path, ONE)
    _fire(project, "silence")
    twice = _opened(_fire(project, "volume", day=NOW, alone=True))
    assert (twice.group, twice.told, len(messages(project))) == ("", True, 2)


_STEPS = st.lists(
    st.tuples(
        st.sampled_from([*(watch for watches in CHAINS.values() for watch in watches), "quarantine"]),
        st.sampled_from(["firing", "firing", "quiet", "silenced"]),
        st.integers(0, 30),
    ),
    min_size=3,
    max_size=14,
)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("lived"), ONE)


@settings(max_examples=12, deadline=None)
@given(_STEPS)
def test_no_page_is_left_unsaid(lived: Project, steps: list[tuple[Watch, str, int]]) -> None:
    """After each tick an open page was told, or one of its cause was and is open, or its watch is silenced."""
    engine = open_state(lived.state)
    here = f"place{next(_PLACES)}"
    now = NOW
    for watch, state, hours in steps:
        now += timedelta(hours=hours, seconds=1)
        if state == "silenced":
            silence(lived, here, watch, lasts=timedelta(hours=10), reason="moving", by="me", now=now)
        else:
            day = now.replace(hour=0, minute=0, second=0) if watch in ("input_drift", "performance") else None
            with writing(engine) as connection:
                found = Finding(state=state, sentence="!", day=day)  # type: ignore[arg-type]
                settle(connection, here, DEFAULTS[watch], found, now=now, channels=lived.alerts.channels)
        speak(lived, here, now=now)
        still = [one for one in find_alerts(engine, here, open_only=True) if one.level == "page"]
        sent = {one.cause for one in still if one.told}
        with engine.connect() as connection:
            for one in still:
                assert one.told or one.cause in sent or is_silenced(connection, here, one.watch, now=now)
                assert not one.told or _is_said(connection, one)


def _is_said(connection: sa.Connection, alert: Alert) -> bool:
    """Is there a message of it, or one that names it?"""
    rows = connection.execute(sa.select(tables.outbox.c.id, tables.outbox.c.body))
    return any(row.id.startswith(alert.id) or alert.id in row.body for row in rows)
