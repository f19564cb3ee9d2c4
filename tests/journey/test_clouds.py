"""One journey, run at every cloud: train (by its jobs, where it has some), deploy, answer, try, promote, roll back."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import clouds
import msgspec
import numpy as np
import pandas as pd
import pytest
from clouds import Cloud, asked
from living import A_DAY, CELLS, deliver, make_project, write
from steps import run, serving
from trainers import TRAINERS, training

from passerelle.bundle.keys import own_key
from passerelle.deployment.applying import open_target
from passerelle.errors import NotebookError
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import totals
from passerelle.loop import jobs
from passerelle.loop.outcomes import record_outcomes
from passerelle.loop.rollout import PRODUCTION
from passerelle.loop.train import registry_of, train
from passerelle.loop.workflows import open_loop
from passerelle.monitoring.maturity import floor_day
from passerelle.notebook.submission import read_answers
from passerelle.project.settings import FILE, Project
from passerelle.state import runs
from passerelle.state.database import open_state
from passerelle.trial import trials

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("clouds")]

DAYS, EVENTS = 7, 40
SOAK = bool(os.environ.get("PASSERELLE_SOAK"))
#: What stays: the records of jobs, and what they were given and made.
HISTORY = re.compile(r"/jobs/|/runs/")


def events(number: int, day: datetime) -> list[dict[str, Any]]:
    """A day's orders, with the truth."""
    draw = np.random.default_rng(number)
    distance, weight = draw.uniform(0, 10, EVENTS).round(3), draw.uniform(0, 5, EVENTS).round(3)
    late = draw.uniform(size=EVENTS) < 1 / (1 + np.exp(5 - distance))
    at = [day + timedelta(hours=24 * one / EVENTS) for one in range(EVENTS)]
    return [
        {
            "order": f"{day:%m%d}-{one}",
            "at": at[one],
            "distance": distance[one],
            "weight": weight[one],
            "late": late[one],
        }
        for one in range(EVENTS)
    ]


def as_instances(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"passerelle_id": row["order"], "passerelle_at": row["at"].isoformat()}
        | {name: float(row[name]) for name in ("distance", "weight")}
        for row in rows
    ]


def tell(project: Project, rows: list[dict[str, Any]], folder: Path) -> None:
    """The outcomes enter at the control plane, as a file."""
    told = pd.DataFrame({"order": [row["order"] for row in rows], "late": [bool(row["late"]) for row in rows]})
    told["known_at"] = [f"{row['at'] + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}" for row in rows]
    told.to_csv(folder / "told.csv", index=False)
    record_outcomes(project, folder / "told.csv", environment=PRODUCTION, now=rows[-1]["at"] + A_DAY)


def judged(project: Project) -> dict[str, Any]:
    """The trial, without what only says where its records lie."""
    engine = open_state(project.state)
    (record,) = trials.history(engine, PRODUCTION)
    assert record.verdict is not None
    blocks = [msgspec.structs.replace(one, position=None) for one in trials.blocks(engine, record.plan.id)]
    return {"kind": record.verdict.kind, "sentence": record.verdict.sentence, "blocks": msgspec.to_builtins(blocks)}


def alike(one: Any, other: Any) -> bool:
    """The same, but for the last digits, which a model owes to the machine that it was fitted on."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def golden_rows(project: Project) -> tuple[list[dict[str, Any]], np.ndarray[Any, Any]]:
    """What the first version's notebook answered."""
    version = registry_of(project).get(1)
    run_folder = project.state / "runs" / version.tags["run"]
    answers = read_answers(run_folder / "submission" / "golden.msgpack")
    names = list(answers.inputs)
    rows = [
        dict(zip(names, row, strict=True))
        for row in zip(*(answers.inputs[name].tolist() for name in names), strict=True)
    ]
    return rows, answers.outputs[:, 0]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A key of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the trial comes to where there is no cloud: an endpoint and a ledger of this machine."""
    folder = tmp_path_factory.mktemp("home")
    project = make_project(folder / "orders")
    look(project, deliver(project, 0))
    now = deliver(project, 1)
    look(project, now)
    day = floor_day(now) + A_DAY
    with serving(project.root) as client:
        for number in range(DAYS):
            rows = events(number, day + number * A_DAY)
            sent = [
                {
                    "id": row["order"],
                    "at": row["at"].isoformat(),
                    "inputs": {n: float(row[n]) for n in ("distance", "weight")},
                }
                for row in rows
            ]
            client.predict(sent)
            tell(project, rows, folder)
    settle(project, day)
    return judged(project)


def look(project: Project, *moments: datetime) -> None:
    """The loop ticks at these moments, and once more: what is decided at its end reaches targets at the next."""
    with open_loop(project, key=own_key()) as loop:
        for moment in (*moments, moments[-1] + timedelta(minutes=1)):
            assert loop.tick(moment).problems == ()


def settle(project: Project, day: datetime) -> None:
    """The loop looks at each noon, and closes the days that are mature."""
    look(project, *(day + number * A_DAY + timedelta(hours=36 + 1) for number in range(DAYS + 1)))


def places(name: str, folder: Path) -> AbstractContextManager[Cloud]:
    if name == "kserve":
        return clouds.kubernetes(folder, form="kserve")
    return getattr(clouds, name)(*([folder] if name in ("azureml", "kubernetes") else []))


#: KServe's form differs from the other in the manifest only, which its own tests judge.
CLOUDS = ["sagemaker", "azureml", "vertex", "kubernetes", *(["kserve"] if SOAK else [])]


@pytest.mark.parametrize("name", CLOUDS)
def test_the_journey(name: str, at_home: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with places(name, tmp_path / "server") as cloud, pytest.MonkeyPatch.context() as patch:
        for variable, value in cloud.variables.items():
            patch.setenv(variable, value)
        project = make_project(tmp_path / "orders", f"[targets.cloud]{cloud.settings}")
        root = project.root
        now = deliver(project, 0)
        if name in TRAINERS:
            patch.setattr(jobs, "POLL_S", 0.3)
            (root / FILE).write_text((root / FILE).read_text().replace("[loop]", '[loop]\ntrains_at = "cloud"'))
            a_job_that_hangs(project, now - 2 * A_DAY)
            if name == "sagemaker" or SOAK:  # its way of telling why is unlike the others'
                with jobs_of(name, cloud, tmp_path) as begun:
                    a_job_that_fails(project, now - A_DAY)
                assert len(begun) == 1

        # Trained and deployed: the platform serves what the notebook answered.
        with jobs_of(name, cloud, tmp_path) as begun:
            look(project, now)
        assert begun == trained_by(project, name, 1)
        assert answers_by(project) == 1
        first = tmp_path / "first"
        first.mkdir()
        rows, expected = golden_rows(project)
        with clouds.running(cloud, first) as url:
            served = [one["probability"] for one in asked(url, cloud, rows)]
        assert np.abs(np.array(served) - expected).max() <= 1e-12

        # New data: a challenger, in shadow, in the same container.
        now = deliver(project, 1)
        with jobs_of(name, cloud, tmp_path) as begun:
            look(project, now)
        assert begun == trained_by(project, name, 2)
        assert answers_by(project) == 2
        day = floor_day(now) + A_DAY
        second = tmp_path / "second"
        second.mkdir()
        with clouds.running(cloud, second) as url:
            for number in range(DAYS):
                sent = events(number, day + number * A_DAY)
                asked(url, cloud, as_instances(sent))
                tell(project, sent, tmp_path)
        settle(project, day)
        assert totals(ledger_folder(project.state, PRODUCTION)).shadow == DAYS * EVENTS
        assert alike(judged(project), at_home)
        assert at_home["kind"] == "PROMOTE"
        assert answers_by(project) == 3

        # Back, and away.
        run("rollback", cwd=root)
        assert answers_by(project) == 4
        assert "revision 4" in run("target", "status", cwd=root)
        third = tmp_path / "third"
        third.mkdir()
        with clouds.running(cloud, third) as url:
            assert {one["version"] for one in asked(url, cloud, rows[:3])} == {1}
        run("target", "remove", "cloud", "--yes", cwd=root)
        assert [one for one in cloud.left() if not HISTORY.search(one)] == []


def jobs_of(name: str, cloud: Cloud, folder: Path) -> AbstractContextManager[list[str]]:
    """The cloud runs the jobs that it is told of, until the block ends: their runs; nothing where it has no jobs."""
    return training(name, cloud.variables, folder / "jobs") if name in TRAINERS else nullcontext([])


def a_job_that_hangs(project: Project, now: datetime) -> None:
    """Nobody begins it until its time is over: it is stopped and told, once more if asked, and no other is started."""
    write(project.root, [*CELLS, "# never begun"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "MACHINE_S", 0)
        patch.setattr(jobs, "_timeout_s", lambda _: 1)
        look(project, now)
        (late,) = runs.all(open_state(project.state))
        assert f"job {late.key} did not end in" in late.details["reason"], late.details["reason"]
        assert late.details["lasting"]
        with pytest.raises(NotebookError) as caught:
            train(project, now=now, runner=jobs.runner_of(project, "cloud"))
    assert str(caught.value) == late.details["reason"]
    write(project.root, CELLS)


def a_job_that_fails(project: Project, now: datetime) -> None:
    """The loop trains by a notebook that raises: no version, and the notebook's own words."""
    write(project.root, [*CELLS[:2], "1 / 0"])
    look(project, now)
    failed = runs.all(open_state(project.state))[-1]
    said = "cell 3 of 3 (1 / 0) raised ZeroDivisionError: division by zero"
    assert said in failed.details["reason"], failed.details["reason"]
    assert failed.details["lasting"]
    assert registry_of(project).versions() == []
    write(project.root, CELLS)


def trained_by(project: Project, name: str, version: int) -> list[str]:
    """The job that a version was made by: named by its run; none where the cloud has no jobs."""
    return [registry_of(project).get(version).tags["run"]] if name in TRAINERS else []


def answers_by(project: Project) -> int | None:
    """The revision that answers, as the cloud says."""
    found = open_target(project, "cloud").observe(PRODUCTION)
    assert found.state == "serving", found.problem
    return found.revision
