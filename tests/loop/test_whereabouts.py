"""Where targets are, and what is said of them before a cloud is asked: no change of place leaves something behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from sea import PLACES, SEA, Sea
from shelf import Shelf

from passerelle.cli import main
from passerelle.deployment.target import Observed, PlanError
from passerelle.errors import DeploymentError, SettingsError
from passerelle.loop.checking import check_project
from passerelle.loop.rollout import deploy, revisions
from passerelle.loop.targets import bring, plan_for, remove
from passerelle.loop.whereabouts import note_where, refuse_moved
from passerelle.project.scaffold import create
from passerelle.project.settings import Project, load_project
from passerelle.project.targets import Cloud, Kubernetes
from passerelle.testing.targets import MemoryPlace, MemoryTarget

NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Sea)
    PLACES.update(sea=MemoryPlace())
    create(tmp_path / "p", "orders", task="binary", language="en", time=False, today=NOW.date())
    project = msgspec.structs.replace(load_project(tmp_path / "p" / "passerelle.toml"), targets={"sea": SEA})
    deploy(project, Shelf(project), 1, now=NOW)  # type: ignore[arg-type]
    return project


def moved(project: Project, **changes: str) -> Project:
    return msgspec.structs.replace(project, targets={"sea": msgspec.structs.replace(SEA, **changes)})


def again(project: Project) -> None:
    deploy(project, Shelf(project), 2, now=NOW)  # type: ignore[arg-type]


def test_a_cluster_that_is_named_later_is_no_move_and_another_one_is(project: Project) -> None:
    def at(context: str | None) -> Project:
        settings = Kubernetes(image="r/i@sha256:" + "a" * 64, instance="", store="s3://b/o", context=context)
        return msgspec.structs.replace(project, targets={"cluster": settings})

    note_where(at(None), "cluster", {})
    refuse_moved(at("paris"), "cluster")
    note_where(at("paris"), "cluster", {})
    with pytest.raises(SettingsError, match=r"last brought to context = 'paris', and .* says context = 'lyon' now"):
        refuse_moved(at("lyon"), "cluster")
    with pytest.raises(SettingsError, match=r"last brought to context = 'paris', and .* says nothing of that now"):
        refuse_moved(at(None), "cluster")


def test_place_is_changed_only_when_nothing_is_left_at_the_former(project: Project) -> None:
    assert bring(project, "production", now=NOW)[0].problem is None
    there = PLACES["sea"].names()
    elsewhere = moved(project, region="us-east-1", store="s3://other/p")
    again(elsewhere)
    words = (
        "target sea was last brought to region = 'eu-west-3', store = 's3://bucket/orders', and passerelle.toml says "
        "region = 'us-east-1', store = 's3://other/p' now"
    )
    for brought in (*bring(elsewhere, "production", now=NOW), remove(elsewhere, "sea", now=NOW)):
        assert (brought.problem or "").startswith(words)
        assert brought.exit_code == SettingsError.exit_code
    for deployment in (revisions(elsewhere, "production").current(), None):
        with pytest.raises(SettingsError, match="passerelle target remove sea; then change them and deploy again"):
            plan_for(elsewhere, deployment, "sea")
    assert PLACES["sea"].names() == there
    assert remove(project, "sea", now=NOW).problem is None
    assert PLACES["sea"].names() == []
    assert bring(elsewhere, "production", now=NOW)[0].sentence == "sea: revision 2 answers, after 5 steps."
    assert bring(
        moved(elsewhere, instance="ml.m5.xlarge", region="us-east-1", store="s3://other/p"), "production", now=NOW
    )


def test_place_where_nothing_was_made_yet_may_be_changed(project: Project) -> None:
    class Away(Sea):
        def observe(self, environment: str) -> Observed:
            raise DeploymentError(f"{environment} cannot be reached.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("passerelle.deployment.applying.load", lambda _: Away)
        assert bring(project, "production", now=NOW)[0].problem == "production cannot be reached."
    elsewhere = moved(project, region="us-east-1")
    PLACES["sea"].order(refusals={"create config": "no quota is left"})  # one step is taken, and one is not
    assert bring(elsewhere, "production", now=NOW)[0].exit_code == 1
    assert "region = 'us-east-1'" in str(bring(project, "production", now=NOW)[0].problem)


def test_target_that_the_settings_forgot_is_told_until_it_is_removed(project: Project) -> None:
    bring(project, "production", now=NOW)
    without = msgspec.structs.replace(project, targets={})
    [lost] = bring(without, "production", now=NOW)
    assert (lost.target, lost.exit_code) == ("sea", 2)
    assert "has no [targets.sea] any more, and it was not removed" in lost.sentence
    assert "region = 'eu-west-3'" in lost.sentence
    remove(project, "sea", now=NOW)
    assert bring(without, "production", now=NOW) == ()


class Blind(Sea):
    """A cloud that nobody can reach, and that takes no large machine."""

    def __init__(self, name: str, settings: Cloud, project: Project, *, pack: object) -> None:
        super().__init__(name, SEA, project, pack=pack)
        self._instance = settings.instance

    def refuse(self, deployment: object) -> None:
        if self._instance == "large":
            raise PlanError("instance", "there is no instance 'large'.")
        assert deployment is not None

    def observe(self, environment: str) -> Observed:
        raise DeploymentError(f"{environment} cannot be reached.")


def test_rules_are_judged_before_a_cloud_is_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Blind)
    large, current = moved(project, instance="large"), revisions(project, "production").current()
    with pytest.raises(PlanError, match=r"^there is no instance 'large'. \(rule instance\)$"):
        plan_for(large, current, "sea")
    assert "(rule instance)" in str(bring(large, "production", now=NOW)[0].problem)
    with pytest.raises(DeploymentError, match="cannot be reached"):
        plan_for(project, current, "sea")


@pytest.mark.parametrize("deployed", [True, False])
def test_check_judges_the_targets_and_asks_no_cloud(
    project: Project, monkeypatch: pytest.MonkeyPatch, *, deployed: bool
) -> None:
    if not deployed:
        for path in (project.state / "deployments" / "production").glob("*.json"):
            path.unlink()
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Blind)
    assert check_project(project, now=NOW)["targets.sea"] == "sagemaker takes what production answers by"
    with pytest.raises(PlanError, match=r"^targets.sea: there is no instance 'large'. \(rule instance\)$"):
        check_project(moved(project, instance="large"), now=NOW)


def test_plan_shows_nothing_that_deploy_would_refuse(project: Project) -> None:
    current = revisions(project, "production").current()
    assert current is not None
    assert plan_for(project, current, "sea").steps
    planted = msgspec.structs.replace(current, trusted_keys=("f" * 64,))
    with pytest.raises(DeploymentError, match="trusts the key ffffffffffff"):
        plan_for(project, planted, "sea")
    assert MemoryTarget(PLACES["sea"], project="orders").observe("production").state == "absent"


def status(project: Project, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, dict[str, object]]:
    """`passerelle target status`: exit code, lines, and what --json prints."""
    monkeypatch.setattr("passerelle.cli.group.project_of", lambda _: project)
    plain, found = (CliRunner().invoke(main, ["target", "status", *more]) for more in ([], ["--json"]))
    assert plain.exit_code == found.exit_code
    return plain.exit_code, plain.stdout, json.loads(found.stdout)


def test_status_tells_what_is_not_as_it_should_be(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(project, "production", now=NOW)
    code, text, found = status(project, monkeypatch)
    assert (code, text.splitlines()[0]) == (0, "sea, production: serving; revision 1 answers, which is the current one")
    assert isinstance(found["sea"], dict)
    assert (found["sea"]["wanted"], found["sea"]["due"], found["sea"]["observed"]["revision"]) == (1, [], 1)
    there = PLACES["sea"].read().resources
    PLACES["sea"].order(
        resources={key: value for key, value in there.items() if not key.startswith(("alarm", "artefa"))}
    )
    code, text, _ = status(project, monkeypatch)
    lost = "create artefact orders-production-000001; create alarm orders-production-errors"
    way = "passerelle deploy --to production --target sea"
    assert (code, f"  not as it should be: {lost}: {way}\n" in text) == (1, True)
    assert PLACES["sea"].names() == [one for one in sorted(there) if not one.startswith(("alarm", "artefa"))]
    bring(project, "production", now=NOW)
    assert status(project, monkeypatch)[0] == 0
    PLACES["sea"].order(
        resources=there
        | {
            "alarm orders-production-errors": {
                "error_share": 0.5,
                "asked": there["alarm orders-production-errors"]["asked"],
            }
        }
    )
    code, text, _ = status(project, monkeypatch)
    assert (code, "alarm orders-production-errors was changed by hand: error_share is 0.5" in text) == (1, True)


def test_status_of_a_target_that_fails_is_an_object(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(project, "production", now=NOW)
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Blind)
    code, _, found = status(project, monkeypatch)
    assert (code, found) == (1, {"sea": {"error": "production cannot be reached.", "exit_code": 1}})
    code, text, found = status(msgspec.structs.replace(project, targets={}), monkeypatch)
    assert (code, list(found)) == (2, ["sea"])
    assert "has no [targets.sea] any more" in text
