"""Jobs of the chain that deploy: the revision comes to the environment's targets, or the job fails in their words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from postgresql_server import drop_schemas, running_server
from sea import PLACES, SEA, Sea
from shelf import KEY, Shelf

from passerelle.cli import main
from passerelle.deployment.target import Observed, TargetError
from passerelle.errors import DataError, DeploymentError, SettingsError, StoreError
from passerelle.loop.chain import Done, JobError, run_job
from passerelle.loop.rollout import deploy, renew, revisions
from passerelle.loop.shared import NEEDED, refuse_lost_ledger, refuse_shared
from passerelle.loop.targets import keep_brought
from passerelle.project.settings import Project, load_project
from passerelle.state.database import open_state
from passerelle.state.timeline import events
from passerelle.testing.targets import MemoryPlace, MemoryTarget

pytest.importorskip("obstore")

NOW = datetime(2026, 1, 5, tzinfo=UTC)
SETTINGS = """
[project]
name = "orders"

[task]
kind = "binary"
target = "late"
key = ["order"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server() as address:
        yield address


@pytest.fixture
def project(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Version 1 answers in production; the newest is 3. All is shared: a real database, and a folder as the store."""
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Sea)
    monkeypatch.setattr("passerelle.loop.chain.registry_of", Shelf)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    monkeypatch.setenv("PASSERELLE_KEY", KEY.private_bytes(*form).decode())
    monkeypatch.setenv("PASSERELLE_STATE_URL", server)
    monkeypatch.setenv("PASSERELLE_REGISTRY_URI", "the shelf")
    monkeypatch.setenv("PASSERELLE_STORE", str(tmp_path / "store"))
    for name in ("GITHUB_EVENT_NAME", "CI_PIPELINE_SOURCE", "BUILD_REASON"):
        monkeypatch.delenv(name, raising=False)
    drop_schemas(server)
    PLACES.update(sea=MemoryPlace(), dock=MemoryPlace())
    root = tmp_path / "clone"
    root.mkdir()
    (root / "passerelle.toml").write_text(SETTINGS)
    found = load_project(root / "passerelle.toml")
    targets = {"sea": SEA, "dock": msgspec.structs.replace(SEA, environment="staging")}
    found = msgspec.structs.replace(found, targets=targets)
    deploy(found, Shelf(found), 1, now=NOW)  # type: ignore[arg-type]
    return found


def run(project: Project, job: str) -> Done:
    return run_job(job, project, now=NOW, on_step=None)


def there(project: Project, target: str, environment: str = "production") -> int | None:
    return MemoryTarget(PLACES[target], project=project.name).observe(environment).revision


def test_staging_comes_to_its_target_or_the_job_fails_in_its_words(project: Project) -> None:
    PLACES["dock"].order(refusals={"create config": "no quota is left"})
    with pytest.raises(JobError, match=r"(?s)staging is at revision 1: version 3\..*dock: .*no quota is left.*again"):
        run(project, "deploy-staging")
    assert (there(project, "dock", "staging"), revisions(project, "staging").numbers()) == (None, [1])
    done = run(project, "deploy-staging")
    assert done.lines[1:] == (
        "Version 3 answers in staging. staging is at revision 1: version 3.",
        "dock: revision 1 answers, after 4 steps.",
    )
    assert (there(project, "dock", "staging"), there(project, "sea")) == (1, None)


def test_a_trial_comes_to_the_target_and_goes_back_once(project: Project) -> None:
    begun = run(project, "deploy-production")
    assert begun.details == {"environment": "production", "revision": 2, "version": 1, "trial": "production-3-2"}
    assert there(project, "sea") == 2
    PLACES["sea"].order(refusals={"create config": "throttled"})
    with pytest.raises(JobError, match=r"(?s)production is at revision 3: .*sea: .*throttled"):
        run(project, "rollback")
    assert there(project, "sea") == 2
    again = run(project, "rollback")  # it is brought there, and no other step back is made
    assert (again.details["revision"], again.details["version"], there(project, "sea")) == (3, 1, 3)
    assert "The last roll-back has not come to sea yet, so none was made." in again.lines[1]
    over = run(project, "deploy-production")
    assert over.lines[1].startswith("Version 3 was tried before, in production-3-2: what came of it stands.")
    assert (over.details["revision"], over.details["trial"]) == (3, None)


def test_judge_brings_the_target_what_is_wanted_and_a_step_that_fails_stops_no_other(
    project: Project, tmp_path: Path
) -> None:
    (project.state / "ledger/production/stored.json").unlink()  # nothing is asked of a bucket in the world
    sea = msgspec.structs.replace(SEA, store=str(tmp_path / "sea"))
    project = msgspec.structs.replace(project, targets={"sea": sea})
    deploy(project, Shelf(project), 1, now=NOW)  # type: ignore[arg-type]
    PLACES["sea"].order(refusals={"create config": "no quota is left"})
    with pytest.raises(JobError, match=r"(?s)^Shared: .*production is at revision 2: .*targets: .*no quota is left"):
        run(project, "judge")
    told = [one.sentence for one in events(open_state(project.state), kind="loop", subject="targets")]
    assert ["no quota is left" in one for one in told] == [True]
    assert run(project, "judge").details == {
        "segments": 0,
        "filled": 0,
        "trial": None,
        "verdict": None,
        "alerts": (),
        "environment": "production",
        "revision": 2,
        "version": 1,
    }
    assert there(project, "sea") == 2


def test_by_hand_part_of_the_variables_is_refused_and_the_loop_of_one_machine_too(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="the delivery chain's jobs judge and retrain do the loop's work"):
        refuse_shared("up")
    monkeypatch.delenv("PASSERELLE_STATE_URL")
    monkeypatch.chdir(project.root)
    done = CliRunner().invoke(main, ["rollback"])
    assert (done.exit_code, "PASSERELLE_STATE_URL is not set" in done.output) == (2, True)
    assert revisions(project, "production").numbers() == [1]


@pytest.fixture
def away(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is named in it is a target that cannot be reached."""
    names: list[str] = []

    class Away(Sea):
        def observe(self, environment: str) -> Observed:
            if names:
                raise TargetError(f"the {names[0]} is away")
            return super().observe(environment)

    assert project.targets
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Away)
    return names


def test_a_target_that_is_away_keeps_no_other_from_a_roll_back(away: list[str], project: Project) -> None:
    run(project, "deploy-production")
    away.append("sea")
    for said in (
        r"Rolled back\.",
        "sea cannot be asked whether the last roll-back came there, so none was made: to go",
    ):
        with pytest.raises(JobError, match=rf"{said}(.|\n)*production is at revision 3: (.|\n)*sea: the sea is away"):
            run(project, "rollback")
    away.clear()
    assert run(project, "rollback").details["revision"] == 3


def test_a_target_that_had_the_last_roll_back_keeps_nobody_from_the_next_step_when_it_is_away(
    away: list[str], project: Project
) -> None:
    for version in (2, 3):
        deploy(project, Shelf(project), version, now=NOW)  # type: ignore[arg-type]
    assert run(project, "rollback").details["revision"] == 4
    away.append("sea")
    with pytest.raises(DeploymentError, match="sea: the sea is away"):  # told of since
        keep_brought(project, "production", key=None, now=NOW)
    for said in (r"Rolled back\.", "none was made"):
        with pytest.raises(JobError, match=rf"{said}(.|\n)*production is at revision 5: (.|\n)*sea: the sea is away"):
            run(project, "rollback")
    away.clear()
    assert (run(project, "rollback").details["version"], there(project, "sea")) == (1, 5)


def test_an_endpoint_whose_ledger_would_stay_on_this_machine_is_not_served_where_files_are_shared(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_lost_ledger(project, "production")  # kept in the store of the target
    bare = msgspec.structs.replace(project, targets={})
    renew(bare, now=NOW)
    monkeypatch.chdir(project.root)
    done = CliRunner().invoke(main, ["serve", "--port", "0"])
    assert (done.exit_code, "production's predictions on this machine alone" in done.output) == (2, True), done.output
    for name in NEEDED:
        monkeypatch.delenv(name)
    refuse_lost_ledger(bare, "production")  # machines share nothing


def test_a_bucket_that_a_proposal_may_not_read_stops_no_training(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = msgspec.structs.replace(project.data, bucket="s3://nobodys/bucket")
    monkeypatch.setattr("passerelle.loop.chain.fetch", _refuse)
    with pytest.raises(StoreError):
        run(msgspec.structs.replace(project, data=data), "train")
    for name in ("PASSERELLE_STATE_URL", "PASSERELLE_REGISTRY_URI", "PASSERELLE_STORE"):
        monkeypatch.delenv(name)
    with pytest.raises(DataError, match="there are no accepted rows of the main table"):
        run(msgspec.structs.replace(project, data=data), "train")


def _refuse(_: Project) -> None:
    raise StoreError("no rights there")


def test_what_travels_to_a_target_is_not_signed_by_a_key_of_a_machine(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PASSERELLE_KEY")
    with pytest.raises(SettingsError, match="PASSERELLE_KEY is not set"):
        run(project, "rollback")
    assert revisions(project, "production").numbers() == [1]


@pytest.mark.parametrize("job", ["train", "retrain"])
def test_what_is_new_in_the_bucket_is_taken(project: Project, tmp_path: Path, job: str) -> None:
    (tmp_path / "bucket").mkdir()
    delivered = tmp_path / "bucket" / "outcomes.csv"
    delivered.write_text("order,late,known_at\n1,perhaps,no moment\n")
    os.utime(delivered, (0, 0))
    data = msgspec.structs.replace(project.data, bucket=str(tmp_path / "bucket"))
    with pytest.raises(DataError, match=r"1 deliveries were put aside, nothing was trained\. .*outcomes\.csv"):
        run(msgspec.structs.replace(project, data=data), job)
