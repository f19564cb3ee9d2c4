"""What a trial says when it starts, from settings and the champion's record."""

import sys
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from trial_days import DAY, START, days, outcome, plan_of, prediction, project_in, write

from passerelle.bundle.manifest import MANIFEST, Environment, Label, Manifest, Provenance
from passerelle.errors import SettingsError
from passerelle.ledger.storage import ledger_folder
from passerelle.project.settings import Project, TaskKind
from passerelle.registry.versions import Version
from passerelle.schema import Schema
from passerelle.trial.planning import make_plan, reference_loss
from passerelle.trial.verdict import Plan


def champion_in(folder: Path, *, task: TaskKind = "binary", classes: tuple[Label, ...] = (False, True)) -> Version:
    """Version 1, of whose bundle only the manifest is there."""
    manifest = Manifest(
        project="trips",
        task=task,
        target="late",
        classes=classes,
        schema=Schema(columns=()),
        provenance=Provenance(created_at=START),
        environment=Environment(python=sys.executable, python_version="3.11", platform="linux", packages={}),
        files={},
    )
    folder.mkdir()
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return Version(number=1, digest="d", path=folder, created_at=START, metrics={}, aliases=(), run="r")


def planned(project: Project, champion: Version, *, reference: float = 0.2) -> Plan:
    return make_plan(
        project,
        environment="production",
        champion=champion,
        challenger=4,
        revision=7,
        reference=reference,
        reference_source="its holdout",
        now=START,
    )


def test_a_plan_is_the_settings_and_the_champions_record(tmp_path: Path) -> None:
    project = project_in(tmp_path, margin=0.03, min_days=10, max_days=20, alpha=0.1)
    plan = planned(project, champion_in(tmp_path / "1"))
    assert (plan.id, plan.champion, plan.challenger, plan.started_at) == ("production-4-7", 1, 4, START)
    assert (plan.loss, plan.classes, plan.unit, plan.horizon_hours) == ("brier", (False, True), "day", 36)
    assert (plan.min_days, plan.max_days, plan.alpha, plan.reference) == (10, 20, 0.1, 0.2)
    assert plan.margin == pytest.approx(0.006)
    assert plan.rollback_above == plan.margin, "in a shadow nobody is harmed"


def test_a_split_rolls_back_what_is_proven_worse_at_all(tmp_path: Path) -> None:
    plan = planned(project_in(tmp_path, mode="split", share=0.2), champion_in(tmp_path / "1"))
    assert (plan.mode, plan.share, plan.rollback_above) == ("split", 0.2, 0.0)


@pytest.mark.parametrize(
    ("settings", "variance"),
    [
        ({"loss": "zero_one"}, 0.2 * 0.8 / 4),
        ({"loss": "zero_one", "mode": "split", "share": 0.1}, 0.2 * 0.8 / 0.09),
        ({"loss": "brier"}, 0.2 * 0.2 / 4),
    ],
)
def test_bets_are_aimed_at_the_rows_of_a_fixed_test(
    tmp_path: Path, settings: dict[str, object], variance: float
) -> None:
    plan = planned(project_in(tmp_path, evidence="rows", **settings), champion_in(tmp_path / "1"))
    assert plan.unit == "row"
    assert plan.planned_n == pytest.approx((1.6449 + 0.8416) ** 2 * variance / 0.006**2, rel=1e-3)


@pytest.mark.parametrize("reference", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_must_be_a_share_of_something(tmp_path: Path, reference: float) -> None:
    with pytest.raises(SettingsError, match="a margin cannot be a share of it"):
        planned(project_in(tmp_path), champion_in(tmp_path / "1"), reference=reference)


def test_the_reference_is_the_mean_loss_of_the_last_mature_days(tmp_path: Path) -> None:
    project, champion = project_in(tmp_path), champion_in(tmp_path / "1")
    folder = ledger_folder(project.state, "production")
    assert reference_loss(project, champion, folder, now=START) is None
    told = days(3, plan=plan_of(id="other"))
    for records in told:
        write(project, records)
    everything = [record for records in told for record in records]
    answers = {record.id: record for record in everything if getattr(record, "role", None) == "live"}
    truths = {record.id: record.value for record in everything if hasattr(record, "value")}
    losses = [(answers[id_].output[0] - truths[id_]) ** 2 for id_ in truths if not id_.startswith("2-")]
    losses.append(1.0)  # its score as a shadow, below
    write(
        project,
        [
            prediction("failed", START, None),
            prediction("another version", START, [0.0], version=2),
            prediction("unlabelled", START, [0.0]),
            prediction("as a shadow", START, [0.0], role="shadow"),
            *(outcome(id_, value=True, at=START + DAY) for id_ in ("failed", "another version", "as a shadow")),
        ],
    )
    # The third day's horizon passes at START + 3 days + 36 h.
    ripe = START + 3 * DAY + timedelta(hours=36)
    found = reference_loss(project, champion, folder, now=ripe - timedelta(seconds=1))
    assert found is not None
    assert found[0] == pytest.approx(np.mean(losses), rel=1e-12)
    assert found[1] == "version 1 on 81 mature events, 06 Jan to 02 Feb 2013"
    later = reference_loss(project, champion, folder, now=ripe)
    assert later is not None
    assert later[1] == "version 1 on 121 mature events, 07 Jan to 03 Feb 2013"
    assert reference_loss(project, champion, folder, now=ripe + 28 * DAY) is None


def test_the_reference_of_numbers_and_of_many_classes(tmp_path: Path) -> None:
    at = START + timedelta(hours=1)
    now = START + 3 * DAY
    numbers = project_in(tmp_path / "a", kind="regression")
    write(numbers, [prediction("a", at, [5.0]), outcome("a", 2, at)])
    champion = champion_in(tmp_path / "1", task="regression", classes=())
    found = reference_loss(numbers, champion, ledger_folder(numbers.state, "production"), now=now)
    assert found is not None
    assert found[0] == 9.0
    colours = project_in(tmp_path / "b", kind="multiclass", loss="zero_one")
    answers = [prediction("a", at, [0.2, 0.7, 0.1]), prediction("b", at, [0.2, 0.7, 0.1])]
    write(colours, [*answers, outcome("a", "green", at), outcome("b", "red", at)])
    champion = champion_in(tmp_path / "2", task="multiclass", classes=("red", "green", "blue"))
    found = reference_loss(colours, champion, ledger_folder(colours.state, "production"), now=now)
    assert found is not None
    assert found[0] == 0.5
