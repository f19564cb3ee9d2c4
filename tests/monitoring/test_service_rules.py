"""Latency, errors and silence: from the real files that an endpoint's workers count in, in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched import make_project

from passerelle.deployment.spec import environment_folder
from passerelle.monitoring.alerts import find_alerts
from passerelle.monitoring.looking import look
from passerelle.monitoring.service import (
    CALM_LOOKS,
    Counts,
    Looked,
    Silence,
    allowed_minutes,
    judge_latency,
    look_on,
    quantile_s,
    read_counts,
    since,
    slower_than,
)
from passerelle.monitoring.windows import read_windows
from passerelle.project.settings import Project
from passerelle.state.database import open_state

NOW = datetime(2013, 2, 1, 12, tzinfo=UTC)
MACHINE = datetime(2026, 11, 22, 12, tzinfo=UTC)

#: Counts as a worker does: events by status, answered requests and their seconds, refused ones; then ends.
WORKER = """
import sys
from passerelle.serving.measures import Measures
scored, failed, slow, refused = map(int, sys.argv[1:])
measures = Measures()
measures.events.labels("1", "live", "scored").inc(scored)
measures.events.labels("1", "live", "failed").inc(failed)
measures.events.labels("2", "shadow", "failed").inc(1000)
for number in range(scored + failed):
    measures.requests.labels("/predict", "200").inc()
    measures.seconds.labels("/predict").observe(3.0 if number < slow else 0.004)
measures.requests.labels("/predict", "422").inc(refused)
measures.requests.labels("unknown", "404").inc(5000)
measures.seconds.labels("/metrics").observe(9.0)
"""


def _count(project: Project, scored: int, *, failed: int = 0, slow: int = 0, refused: int = 0) -> None:
    folder = environment_folder(project.state, "production") / "measures"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [str(number) for number in (scored, failed, slow, refused)]
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", WORKER, *numbers], env=environment, check=True)


def _look(project: Project, minutes: float) -> list[str]:
    """What opened (+) or closed (-) at a look, so many minutes of machine time after the first."""
    moved = timedelta(minutes=minutes)
    changed = look(project, "production", open_state(project.state), now=NOW + moved, machine=lambda: MACHINE + moved)
    return [("-" if one.closed_at else "+") + one.watch for one in changed if one is not None]


def _calm(project: Project, minute: float, *, more: int = 0) -> list[str]:
    """What opened or closed in the looks that an alert waits for after its first quiet one, and so many more."""
    changed = []
    for number in range(CALM_LOOKS - 1 + more):
        _count(project, 100)
        changed += _look(project, minute + number)
    return changed


def test_counts_of_all_workers_are_added(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    assert read_counts(environment_folder(project.state, "production")) is None
    _count(project, 90, failed=10, slow=5, refused=7)
    _count(project, 50)
    found = read_counts(environment_folder(project.state, "production"))
    assert found is not None
    assert (found.events, found.total) == ({"scored": 140.0, "failed": 10.0}, 150.0)
    assert found.requests == {"answered": 150.0, "refused": 7.0}
    assert (found.seconds["0.005"], found.seconds["2.5"], found.seconds["5.0"]) == (145.0, 145.0, 150.0)


def test_slow_answers_page_until_they_are_quick_again(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    engine = open_state(project.state)
    _count(project, 200)
    assert _look(project, 0) == []
    _count(project, 200, slow=20)
    assert _look(project, 1) == ["+latency"]
    [alert] = find_alerts(engine, "production")
    assert alert.sentence.startswith("20 of the last 200 requests took longer than 1,000 ms: one in a hundred takes 4,")
    assert alert.level == "page"
    _count(project, 50)  # too few to say
    assert _look(project, 2) == []
    _count(project, 50)
    assert _look(project, 3) == []
    assert _calm(project, 4) == ["-latency"]
    [window] = read_windows(engine, "production", "latency")
    assert (window.value["requests"], window.value["day_requests"]) == (100, 900)
    assert window.value["p99_ms"] == pytest.approx(4.96, abs=0.05)


def test_a_few_slow_ones_page_nobody(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    _count(project, 100, slow=4)
    assert _look(project, 0) == []


def test_events_that_fail_page_and_shadows_do_not(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    _count(project, 988, failed=12)
    assert _look(project, 0) == ["+errors"]
    [alert] = find_alerts(open_state(project.state), "production")
    assert alert.sentence == (
        "the model failed on 12 of the last 1,000 events and was too slow for 0: 1.2 %, where 1 % may be."
    )
    assert _calm(project, 1, more=1) == ["-errors"]


def test_what_comes_and_goes_pages_once(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    told = []
    for minute in range(12):
        _count(project, 100, slow=20 if minute % 3 == 0 else 0)
        told += _look(project, minute)
    assert told == ["+latency"]
    assert _calm(project, 12, more=-1) == ["-latency"]  # two quiet looks came before


def test_requests_that_are_refused_page(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    _count(project, 150, refused=50)
    assert _look(project, 0) == ["+errors"]
    [alert] = find_alerts(open_state(project.state), "production")
    assert "of the last 200 requests 50 were refused, as the caller's fault, and 0 failed: 25.0 %" in alert.sentence


def test_silence_pages_when_events_came_before_and_ends_when_they_come_again(tmp_path: Path) -> None:
    project = make_project(tmp_path, '[[rules]]\nwatch = "silence"\nthreshold = 30\n')
    assert _look(project, 0) == []  # no endpoint yet
    _count(project, 5)
    changed = [_look(project, minutes) for minutes in range(10, 60, 10)]
    assert changed == [[], [], [], [], ["+silence"]]
    [alert] = find_alerts(open_state(project.state), "production")
    assert alert.sentence == "no event has come for 40 minutes; up to 30 minutes are expected."
    _count(project, 1)
    assert _look(project, 60) == ["-silence"]


def test_what_nobody_looked_at_is_not_silence(tmp_path: Path) -> None:
    project = make_project(tmp_path, '[[rules]]\nwatch = "silence"\nthreshold = 30\n')
    _count(project, 5)
    assert _look(project, 0) == []
    assert _look(project, 60 * 24) == []  # the loop was stopped for a day


def test_an_endpoint_that_is_gone_is_silent(tmp_path: Path) -> None:
    project = make_project(tmp_path, '[[rules]]\nwatch = "silence"\nthreshold = 12\n')
    _count(project, 5)
    assert _look(project, 0) == []
    for path in (environment_folder(project.state, "production") / "measures").iterdir():
        path.unlink()
    (environment_folder(project.state, "production") / "measures").rmdir()
    assert [_look(project, minutes) for minutes in (6, 12, 18)] == [[], [], ["+silence"]]


def test_a_rule_that_is_off_opens_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path, '[[rules]]\nwatch = "errors"\nlevel = "off"\n')
    _count(project, 100, failed=100)
    assert _look(project, 0) == []


def test_silence_learns_from_its_own_nights() -> None:
    assert allowed_minutes([Silence(longest_minutes=400)] * 6, None) == 24 * 60
    assert allowed_minutes([Silence(longest_minutes=one) for one in (300, 360, 10, 10, 10, 10, 10)], None) == 720
    assert allowed_minutes([Silence(longest_minutes=1)] * 14, None) == 60


def test_an_endpoint_that_began_again_counts_from_nothing() -> None:
    before = Counts(events={"scored": 100}, requests={"answered": 50})
    assert since(before, Counts(events={"scored": 7})).total == 7
    looked = look_on(Looked(last=before, at=NOW, silent_s=0.0), Counts(events={"scored": 7}), at=NOW)
    assert looked.silent_s == 0


def test_an_endpoint_that_began_again_and_counted_more_is_another(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    environment = environment_folder(project.state, "production")
    _count(project, 100)
    before = read_counts(environment)
    assert before is not None
    _count(project, 10)
    more = read_counts(environment)
    assert more is not None
    assert since(before, more).events == {"scored": 10, "failed": 0}
    shutil.rmtree(environment / "measures")
    _count(project, 150)
    now = read_counts(environment)
    assert now is not None
    assert since(before, now) == now
    assert now.events["scored"] == 150
    # The buckets alone may tell: as many requests, and fewer of them quick.
    quick, slow = Counts(seconds={"1.0": 9, "+Inf": 9}), Counts(seconds={"1.0": 5, "+Inf": 9})
    assert since(quick, slow) == slow


BUCKETS = ("0.001", "0.01", "0.1", "1.0", "+Inf")


@given(st.lists(st.integers(0, 50), min_size=5, max_size=5), st.floats(0.001, 2), st.floats(0.01, 0.99))
def test_quantiles_and_tails_agree(counts: list[int], limit_s: float, share: float) -> None:
    total = 0
    seconds = {}
    for bound, count in zip(BUCKETS, counts, strict=True):
        total += count
        seconds[bound] = float(total)
    slow = slower_than(seconds, limit_s)
    assert 0 <= slow <= total
    assert slower_than(seconds, limit_s * 2) <= slow + 1e-9
    at = quantile_s(seconds, share)
    assert 0 <= at <= 1.0
    if total and counts[-1] == 0 and at > 0:
        assert slower_than(seconds, at) == pytest.approx((1 - share) * total, abs=1e-6)


def test_all_beyond_the_last_bound_are_slow() -> None:
    seconds = {"1.0": 0.0, "+Inf": 100.0}
    found = judge_latency(Counts(seconds=seconds), None, limit_ms=20_000)
    assert found is not None
    assert (slower_than(seconds, 20.0), quantile_s(seconds, 0.99)) == (100.0, 1.0)
