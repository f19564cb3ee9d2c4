"""The account or cluster that is reached, which no setting says, is remembered; at another nothing is done."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from sea import PLACES, SEA, Sea
from shelf import Shelf

from passerelle.deployment.target import Observed, PlanError, Step
from passerelle.errors import DeploymentError, SettingsError
from passerelle.loop.rollout import deploy, revisions
from passerelle.loop.targets import bring, has, keep_brought, plan_for, remove, status
from passerelle.loop.whereabouts import note_where, place_of
from passerelle.project.scaffold import create
from passerelle.project.settings import Project, load_project
from passerelle.project.targets import Kubernetes
from passerelle.testing.targets import MemoryPlace, MemoryTarget

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TOLD = (
    "target sea was last brought to account = '1', and from here it is account = '2' now, by credentials or kubectl's "
    "settings: what is there would stay, and be paid for. Go back there: sign in there, or name it by AWS_PROFILE. To "
    "leave it for good, passerelle target remove sea from there; then deploy from here. (If nothing is there any more, "
    "delete "
)


class Unasked(Sea):
    """Nobody looks, or changes anything, there."""

    def observe(self, environment: str) -> Observed:
        raise AssertionError(environment)

    def apply(self, step: Step) -> None:
        raise AssertionError(step)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Sea)
    PLACES.update(sea=MemoryPlace())
    create(tmp_path / "p", "orders", task="binary", language="en", time=False, today=NOW.date())
    project = msgspec.structs.replace(load_project(tmp_path / "p" / "passerelle.toml"), targets={"sea": SEA})
    deploy(project, Shelf(project), 1, now=NOW)  # type: ignore[arg-type]
    return project


def record(project: Project) -> Path:
    return project.state / "targets" / "sea.json"


def test_nothing_is_asked_of_another_account(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bring(project, "production", now=NOW)[0].problem is None
    current = revisions(project, "production").current()
    assert current is not None
    PLACES["sea"].order(account="2")
    kept = record(project).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("passerelle.deployment.applying.load", lambda _: Unasked)
        for brought in (*bring(project, "production", now=NOW), remove(project, "sea", now=NOW)):
            assert (brought.problem or "").startswith(TOLD)
            assert brought.exit_code == SettingsError.exit_code
        for act in (
            lambda: plan_for(project, current, "sea"),
            lambda: plan_for(project, None, "sea"),
            lambda: status(project, "sea"),
        ):
            with pytest.raises(SettingsError, match="account = '2' now"):
                act()
        (project.state / "targets" / "sea.removed").unlink()
        with pytest.raises(DeploymentError, match="account = '2' now"):
            keep_brought(project, "production", key=None, now=NOW)
        assert has(project, "sea", current), "as it said last, not as the other account says"
    assert record(project).read_bytes() == kept
    PLACES["sea"].order(account="1")
    assert remove(project, "sea", now=NOW).problem is None
    PLACES["sea"].order(account="2")
    assert bring(project, "production", now=NOW)[0].problem is None
    assert msgspec.json.decode(record(project).read_bytes())["account"] == "2"


def test_the_account_is_kept_before_anything_is_there(project: Project) -> None:
    PLACES["sea"].order(refusals={"create config": "no quota is left"})
    assert bring(project, "production", now=NOW)[0].exit_code == 1
    PLACES["sea"].order(account="2")
    assert (bring(project, "production", now=NOW)[0].problem or "").startswith(TOLD)


def test_a_record_from_before_is_no_other_account(project: Project) -> None:
    assert bring(project, "production", now=NOW)[0].problem is None
    there = msgspec.json.decode(record(project).read_bytes(), type=dict[str, str])
    del there["account"]
    record(project).write_bytes(msgspec.json.encode(there))
    PLACES["sea"].order(account="2")
    assert bring(project, "production", now=NOW)[0].problem is None
    assert msgspec.json.decode(record(project).read_bytes()) == there | {"account": "2"}


def test_rules_are_judged_before_the_place_is_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Strict(Sea):
        def refuse(self, deployment: object) -> None:
            raise PlanError("instance", f"there is no instance for {deployment}.")

        def place(self) -> dict[str, str]:
            raise AssertionError

    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Strict)
    assert "(rule instance)" in str(bring(project, "production", now=NOW)[0].problem)
    with pytest.raises(PlanError):
        plan_for(project, revisions(project, "production").current(), "sea")


class Cluster(MemoryTarget):
    """Where kubectl's settings lead; None: it has none."""

    at: str | None = None

    def place(self) -> dict[str, str]:
        """See Placed."""
        return {} if self.at is None else {"cluster": self.at}


def test_a_cluster_by_its_address_until_the_settings_name_it(project: Project) -> None:
    target = Cluster(MemoryPlace())

    def go(context: str | None, at: str | None) -> None:
        """As a deploy does."""
        settings = Kubernetes(image="r/i@sha256:" + "a" * 64, instance="", store="s3://b/o", context=context)
        here, target.at = msgspec.structs.replace(project, targets={"sea": settings}), at
        note_where(here, "sea", place_of(here, "sea", target))

    def kept() -> tuple[str | None, str | None]:
        found = msgspec.json.decode(record(project).read_bytes(), type=dict[str, str])
        return found.get("context"), found.get("cluster")

    go(None, None)
    assert kept() == (None, None)
    go(None, "https://paris")
    go(None, None)
    assert kept() == (None, "https://paris"), "who does not know forgets nothing"
    for context in (None, "lyon"):
        with pytest.raises(SettingsError, match=r"'https://paris', and from here it is cluster = 'https://lyon' now"):
            go(context, "https://lyon")
    go("paris", "https://paris")
    assert kept() == ("paris", "https://paris")
    go("paris", "https://10.0.0.1")
    assert kept() == ("paris", "https://paris"), "one name, two addresses"
