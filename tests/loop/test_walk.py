"""Every step of the loop is killed by SIGKILL, before and after, and taken again: nothing is made or told twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from living import Take, current
from splitting import answer

from passerelle.loop.rollout import PRODUCTION, revisions
from passerelle.loop.train import registry_of
from passerelle.loop.trying import begin, stop
from passerelle.monitoring.alerts import find_alerts
from passerelle.project.settings import Project, load_project
from passerelle.state import runs
from passerelle.state.database import open_state
from passerelle.state.timeline import events
from passerelle.trial import trials

pytestmark = pytest.mark.timeout(1200)

Tick = Callable[[Project, datetime, str | None], int]

#: The tick that trains, from its first step to the trial's beginning.
DELIVERED = ("land", "make", "run_notebook", "register", "finish", "deploy", "reconcile", "start", "begin_trial")
#: The tick that fills the last gap, decides, and promotes.
TRIED = ("gather", "fill", "verdict", "put", "wait_observed", "reconcile", "end", "judge", "look", "send", "decide")
#: The tick that goes up a step.
STEPPED = ("gather", "step", "put", "wait_observed", "reconcile", "judge", "look")
SOAK = bool(os.environ.get("PASSERELLE_SOAK"))


def points(names: tuple[str, ...], few: tuple[str, ...]) -> list[str]:
    every = [f"{when}:{name}" for name in names for when in ("before", "after")]
    return every if SOAK else [one for one in every if one in few]


@pytest.fixture(scope="module")
def tick() -> Iterator[Tick]:
    """Ticks, each in a process of its own, which may kill itself at a point; answers its exit code."""
    script = Path(__file__).with_name("looping.py")
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(project: Project, now: datetime, point: str | None) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"root": str(project.root), "now": now.isoformat(), "point": point}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield run
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait(20)


def made(project: Project) -> dict[str, Any]:
    """All that a tick makes, without what differs by nature: salts, moments of the machine, names of writers."""
    engine = open_state(project.state)
    history = trials.history(engine, PRODUCTION)
    return {
        "runs": [(run.status, run.details.get("version")) for run in runs.all(engine)],
        "versions": [(one.number, one.aliases) for one in registry_of(project).versions()],
        "revisions": [
            (number, [(one.version, one.mode) for one in revisions(project, PRODUCTION).get(number).variants])
            for number in revisions(project, PRODUCTION).numbers()
        ],
        "trials": [(one.plan.id, one.status, one.verdict and one.verdict.kind, one.revision) for one in history],
        "blocks": [
            [(one.start, one.rows, one.difference) for one in trials.blocks(engine, t.plan.id)] for t in history
        ],
        "alerts": [(one.id, one.closed_at) for one in find_alerts(engine, PRODUCTION)],
        "timeline": sorted(
            (one.at, one.kind, one.subject, one.sentence.replace(str(project.root), "ROOT")) for one in events(engine)
        ),
    }


@pytest.fixture(scope="module")
def uncut() -> dict[str, dict[str, Any]]:
    """What each stage's tick makes when nothing is killed."""
    return {}


def taken(take: Take, stage: str) -> tuple[Project, datetime]:
    """A stage; stepped: the trial of "tried" was stopped, and begun anew as a split that is to go up a step now."""
    if stage != "stepped":
        return take(stage)
    made, now = take("tried")
    path = made.root / "passerelle.toml"
    steps = '[trial]\nmode = "split"\nsteps = [0.1, 0.3]\n'
    path.write_text(path.read_text().replace("[trial]\n", steps))
    project = load_project(path)
    begun = now - timedelta(days=1)
    stop(project, registry_of(project), now=begun)
    begin(project, registry_of(project), 2, now=begun)
    answer(project, begun, rows=400)
    return project, now


@pytest.mark.parametrize(
    ("stage", "point"),
    [
        *[("delivered", point) for point in points(DELIVERED, ("after:register", "after:deploy"))],
        *[("stepped", point) for point in points(STEPPED, ("after:put", "before:reconcile"))],
        *[("tried", point) for point in points(TRIED, ("after:verdict", "after:put", "before:end"))],
    ],
)
def test_killed_and_taken_again(stage: str, point: str, take: Take, tick: Tick, uncut: dict[str, Any]) -> None:
    if stage not in uncut:
        project, now = taken(take, stage)
        assert tick(project, now, None) == 0
        uncut[stage] = made(project)
    project, now = taken(take, stage)
    assert tick(project, now, point) == -9, "it was killed"
    assert tick(project, now, None) == 0
    found = made(project)
    for name, value in uncut[stage].items():
        assert found[name] == value, name
    assert len(set(found["timeline"])) == len(found["timeline"])
    if stage == "stepped":
        assert found["trials"] == [
            ("production-2-2", "ended", "INCONCLUSIVE", 3),
            ("production-2-4", "running", None, None),
        ]
        assert [one.weight for one in current(project).variants] == [0.7, 0.3]
        assert len(found["revisions"]) == 5, "one step, by one revision"
    elif stage == "tried":
        assert [one.version for one in current(project).variants] == [2], "the challenger answers alone"
        assert found["trials"] == [("production-2-2", "ended", "PROMOTE", 3)]
    else:
        assert found["runs"] == [("sealed", 1), ("sealed", 2)]
        assert len(found["alerts"]) == 1, "of the delivery that was put aside"
    assert tick(project, now, None) == 0, "the same tick once more does nothing"
    assert made(project) == found
