"""recompute_verdicts.py: an auditor finds the verdicts that were reached, and what was changed since."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scipy import stats
from trial_days import DAY, START, days, outcome, plan_of, prediction, project_in, write

from passerelle.ledger.compaction import compact
from passerelle.ledger.records import Outcome, Prediction
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.watermarks import delta_versions
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.evidence import close_blocks
from passerelle.trial.judging import digest, judge, set_aside
from passerelle.trial.verdict import Plan


def _live(
    root: Path, plan: Plan, *, worse: float = 0.0, until: int | None = None, rows: int = 30, lost: bool = False
) -> Project:
    """A trial, day by day, with what is not plain in a ledger, until its verdict or until it is set aside.

    ``lost``: the events that a split's challenger answered never have an outcome.
    """
    project = project_in(root)
    engine = open_state(project.state)
    record = trials.start(engine, plan)
    for number, records in enumerate(days(plan.max_days + 5, rows=rows, worse=worse, plan=plan)):
        challengers = {one.id for one in records if isinstance(one, Prediction) and one.version == 2}
        heard = [one for one in records if not (lost and isinstance(one, Outcome) and one.id in challengers)]
        at, later = START + number * DAY + timedelta(hours=2), START + number * DAY + timedelta(days=3)
        odd = [
            prediction(f"failed-{number}", at, None, probability=0.5),  # both failed
            prediction(f"failed-{number}", at, None, role="shadow", version=2),
            outcome(f"failed-{number}", value=True, at=at),
            prediction(f"late-{number}", at, None, probability=0.5, status="timed_out"),  # the champion, under load
            prediction(f"late-{number}", at, [0.4], role="shadow", version=2),
            outcome(f"late-{number}", value=True, at=at),
            prediction(f"alone-{number}", at, [0.4], probability=0.5),  # its shadow was lost for good
            outcome(f"alone-{number}", value=False, at=at),
            prediction(f"{number}-1", at, [0.99], probability=0.5),  # an id that was recorded before
            outcome(f"{number}-2", value=True, at=later),  # a correction after the horizon
            prediction(f"unknown-{number}", at, [0.5], probability=0.5),  # never any outcome
            prediction(f"unknown-{number}", at, [0.5], role="shadow", version=2),
        ]
        write(project, [*heard, *odd], slot=f"worker-{number % 2}")
        now = START + number * DAY + DAY / 2
        blocks = close_blocks(project, record, now=now)
        verdict = judge(plan, blocks, now=now)
        if number == until:
            verdict = set_aside(plan, blocks, reason="version 3 takes its place")
        if verdict.kind != "KEEP_GOING":
            delta = delta_versions(ledger_folder(project.state, "production"))
            trials.decide(engine, plan.id, verdict, at=now, delta=delta, digest=digest(plan, blocks))
            compact(ledger_folder(project.state, "production"), now=now)
            return project
    raise AssertionError("no verdict")


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was lived; do not change it."""
    return _live(tmp_path_factory.mktemp("promoted"), plan_of(), worse=0.0).root


Audit = Callable[[Path], tuple[int, str, str]]


@pytest.fixture
def audit(recompute_verdicts: ModuleType, capsys: pytest.CaptureFixture[str]) -> Audit:
    """Runs the script on a project: its exit code, and what it printed."""

    def run(root: Path) -> tuple[int, str, str]:
        code = recompute_verdicts.main([str(root)])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("changes", "worse", "until", "kind"),
    [
        pytest.param({}, 0.0, None, "PROMOTE", id="one that is as good"),
        pytest.param({}, 0.1, None, "ROLL_BACK", id="one that is worse"),
        pytest.param({"mode": "split", "rollback_above": 0.0, "margin": 0.1}, 0.0, None, "PROMOTE", id="a split"),
        pytest.param({"margin": 1e-4, "rollback_above": 1e-4}, 0.0, None, "INCONCLUSIVE", id="no verdict in time"),
        pytest.param({}, 0.1, 5, "INCONCLUSIVE", id="set aside for a newer one"),
    ],
)
def test_what_was_decided_is_found_again(
    *, changes: dict[str, Any], worse: float, until: int | None, kind: str, tmp_path: Path, audit: Audit
) -> None:
    _live(tmp_path, plan_of(**changes), worse=worse, until=until)
    code, told, problems = audit(tmp_path)
    assert (code, problems) == (0, "")
    assert kind in told
    assert told.endswith("1 trials, 0 of them differ.\n")


def test_outcomes_that_one_arm_lacks_make_a_split_invalid_here_too(tmp_path: Path, audit: Audit) -> None:
    plan = plan_of(mode="split", rollback_above=0.0, margin=0.1)
    project = _live(tmp_path, plan, rows=100, lost=True)
    record = trials.find(open_state(project.state), plan.id)
    assert record is not None
    assert record.verdict is not None
    assert record.verdict.kind == "INVALID"
    code, told, _ = audit(tmp_path)
    assert (code, "INVALID" in told) == (0, True), told
    # Blocks that were kept before these were counted: no verdict could rest on them.
    for _ in trials.blocks(open_state(project.state), plan.id):
        _edit(project.state / "state.db", "blocks", lambda one: one.pop("labelled_units"), at="labelled_units")
    code, told, _ = audit(tmp_path)
    assert (code, "the verdict was INVALID, and is " in told) == (1, True), told
    assert "labelled_units was kept" not in told


def _edit(database: Path, table: str, change: Callable[[dict[str, Any]], object], *, at: str = "") -> None:
    """Change the first row of a table, or the first that holds ``at``."""
    with sqlite3.connect(database) as connection:
        found = connection.execute(f"SELECT rowid, value FROM {table} ORDER BY rowid").fetchall()  # noqa: S608  (ours)
        rowid, text = next(row for row in found if at in row[1])
        value = json.loads(text)
        change(value)
        connection.execute(f"UPDATE {table} SET value = ? WHERE rowid = ?", (json.dumps(value), rowid))  # noqa: S608  (ours)


@pytest.mark.parametrize(
    ("table", "change", "named"),
    [
        pytest.param("blocks", lambda one: one.update(difference=-0.5), "difference was kept as -0.5", id="a day"),
        pytest.param("blocks", lambda one: one.update(unlabelled=0), "unlabelled was kept as 0", id="a count"),
        pytest.param(
            "blocks", lambda one: one.update(champion_late=0), "champion_late was kept as 0", id="late answers"
        ),
        pytest.param("blocks", lambda one: one.update(unpaired=9), "unpaired was kept as 9, and is 1", id="pairs"),
        pytest.param("trials", lambda one: one["verdict"].update(kind="ROLL_BACK"), "verdict was", id="the verdict"),
        pytest.param(
            "trials",
            lambda one: one["verdict"].update(decided_by="2013-02-09T00:00:00Z"),
            "it was decided by 2013-02-09",
            id="the day that decided",
        ),
        pytest.param("trials", lambda one: one["plan"].update(margin=1e-6), "verdict was PROMOTE", id="the margin"),
    ],
)
def test_what_was_changed_is_found(
    *, table: str, change: Callable[[dict[str, Any]], object], named: str, promoted: Path, tmp_path: Path, audit: Audit
) -> None:
    root = shutil.copytree(promoted, tmp_path / "changed")
    _edit(root / ".passerelle" / "state.db", table, change)
    code, told, _ = audit(root)
    assert code == 1, told
    assert named in told


def test_it_does_not_guess_what_is_not_in_the_tables_yet(promoted: Path, tmp_path: Path, audit: Audit) -> None:
    root = shutil.copytree(promoted, tmp_path / "more")
    write(project_in(root), [outcome("0-1", value=True, at=START)])
    code, _, problems = audit(root)
    assert code == 2
    assert "passerelle ledger compact" in problems


@pytest.mark.parametrize(("t", "freedom", "delta"), [(0.3, 13, 0.2), (2.5, 20, 1.5), (6.0, 27, 4.0)])
def test_the_quadrature_is_the_ratio_of_the_densities(
    t: float, freedom: int, delta: float, recompute_verdicts: ModuleType
) -> None:
    ratio = stats.nct.pdf(t, freedom, delta) / stats.t.pdf(t, freedom)
    assert recompute_verdicts.quadrature(t, freedom, delta) == pytest.approx(ratio, rel=1e-8)
