"""Targets of an environment: what a revision says for them, and how the loop and a person bring it there."""

from __future__ import annotations

import contextlib
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from dbos import DBOS, PortableWorkflowError
from sea import PLACES, SEA, Sea
from shelf import Shelf

from passerelle.adapters.local import LocalTarget
from passerelle.bundle.keys import throwaway_key
from passerelle.deployment import image_facts
from passerelle.deployment.target import Observed, PlanError, Step, TargetError
from passerelle.errors import DeploymentError, SettingsError
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.ledger.stored import Place, gathered_until, places
from passerelle.loop import targets
from passerelle.loop.rollout import deploy, kept_at, renew, revisions, roll_back
from passerelle.loop.targets import bring, keep_brought, names_of, plan_for, remove
from passerelle.loop.workflows import open_loop
from passerelle.project.settings import Project, ProjectSection, Serving, Task, load_project
from passerelle.project.targets import Kubernetes, Local
from passerelle.serving.observation import Observation, observe
from passerelle.state.database import open_state
from passerelle.state.timeline import events
from passerelle.testing.targets import MemoryPlace, MemoryTarget

NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Sea)
    PLACES.update(sea=MemoryPlace(), lake=MemoryPlace())
    return Project(
        project=ProjectSection(name="orders"),
        task=Task(kind="binary", target="late", key=("order",)),
        targets={"sea": SEA, "lake": Local(), "dock": msgspec.structs.replace(SEA, environment="staging")},
        root=tmp_path,
    )


def put(project: Project, version: int, *, environment: str = "production") -> int:
    shelf = Shelf(project)
    return deploy(project, shelf, version, environment=environment, now=NOW).revision  # type: ignore[arg-type]


def told(project: Project, target: str) -> list[str]:
    return [event.sentence for event in events(open_state(project.state), kind=targets.KIND, subject=target)]


def answers(target: str) -> int | None:
    return MemoryTarget(PLACES[target], project="orders").observe("production").revision


def test_revision_for_a_cloud_keeps_its_ledger_in_the_store(project: Project) -> None:
    put(project, 1)
    put(project, 1, environment="staging")
    put(project, 1, environment="elsewhere")
    found = {name: revisions(project, name).get(1) for name in ("production", "staging", "elsewhere")}
    assert {name: (one.ledger_at, one.auth) for name, one in found.items()} == {
        "production": ("s3://bucket/orders/ledger/orders/production", "platform"),
        "staging": ("s3://bucket/orders/ledger/orders/staging", "platform"),
        "elsewhere": (None, "tokens"),
    }
    other = msgspec.structs.replace(project, project=ProjectSection(name="trips"))
    assert kept_at(other, "production")[0] == "s3://bucket/orders/ledger/trips/production"


def test_ledger_in_a_store_is_not_waited_for_unless_the_settings_say_so(project: Project) -> None:
    put(project, 1)
    put(project, 1, environment="elsewhere")
    modes = [revisions(project, name).get(1).ledger for name in ("production", "elsewhere")]
    assert modes == ["async", "durable"]
    said = msgspec.structs.replace(project, serving=Serving(ledger="durable"))
    assert deploy(said, Shelf(said), 1, now=NOW).ledger == "durable"  # type: ignore[arg-type]
    mounted = {"sea": msgspec.structs.replace(SEA, store="/mnt/store")}
    assert renew(msgspec.structs.replace(project, targets=mounted), draft=True, now=NOW).ledger == "durable"


def test_store_is_read_from_the_moment_a_revision_names_it(project: Project) -> None:
    folder = ledger_folder(project.state, "production")
    deploy(project, Shelf(project), 1, draft=True, now=NOW)  # type: ignore[arg-type]
    assert places(folder) == {}
    put(project, 1)
    at = "s3://bucket/orders/ledger/orders/production"
    assert places(folder) == {at: Place()}
    assert gathered_until(folder) == datetime.min.replace(tzinfo=UTC)
    renew(msgspec.structs.replace(project, targets={}), now=NOW)
    assert places(folder) == {at: Place(left_at=NOW)}


def test_cluster_without_a_gateway_asks_for_tokens(project: Project) -> None:
    cluster = Kubernetes(image=SEA.image, store=SEA.store, instance="")
    for gateway, auth in ((False, "tokens"), (True, "platform")):
        targets = {"cluster": msgspec.structs.replace(cluster, gateway=gateway)}
        assert kept_at(msgspec.structs.replace(project, targets=targets), "production")[1] == auth


def test_two_clouds_for_one_environment_are_refused(project: Project) -> None:
    both = msgspec.structs.replace(project, targets=project.targets | {"ocean": SEA})
    with pytest.raises(SettingsError, match="sea and ocean are both targets of production: give each an environment"):
        put(both, 1)
    assert revisions(project, "production").numbers() == []


def test_revision_made_before_its_target_is_renewed(project: Project) -> None:
    before = msgspec.structs.replace(project, targets={})
    put(before, 1)
    assert renew(before, now=NOW).revision == 1
    [one, _] = bring(project, "production", now=NOW)
    assert one.problem is not None
    assert "passerelle deploy --to production makes a revision" in one.problem
    assert PLACES["sea"].names() == []
    assert renew(project, draft=True, now=NOW).revision == 2
    assert revisions(project, "production").numbers() == [1]
    made = renew(project, now=NOW)
    assert (made.revision, made.reason) == (2, "the targets of production have changed")
    assert made.variants == revisions(project, "production").get(1).variants
    assert [found.problem for found in bring(project, "production", now=NOW)] == [None, None]


def test_revision_that_trusts_somebody_elses_key_is_not_signed(project: Project) -> None:
    put(project, 1)
    place = revisions(project, "production")
    planted = msgspec.structs.replace(place.get(1), revision=2, trusted_keys=("f" * 64,))
    place.put(planted, after=1)
    [one, _] = bring(project, "production", now=NOW)
    assert one.problem is not None
    assert "trusts the key ffffffffffff" in one.problem
    assert PLACES["sea"].names() == []


def test_deploy_roll_back_and_again(project: Project) -> None:
    assert put(project, 1) == 1
    assert [(one.target, one.sentence) for one in bring(project, "production", now=NOW)] == [
        ("sea", "sea: revision 1 answers, after 5 steps."),
        ("lake", "lake: revision 1 answers, after 5 steps."),
    ]
    [again] = bring(project, "production", target="sea", now=NOW)
    assert again.sentence == "sea: revision 1 answers; nothing was to do."
    put(project, 2)
    bring(project, "production", target="sea", now=NOW)
    assert (answers("sea"), answers("lake")) == (2, 1)
    assert roll_back(project, now=NOW).revision == 3
    bring(project, "production", now=NOW)
    assert (answers("sea"), answers("lake")) == (3, 3)
    assert told(project, "sea") == [
        "target sea: revision 1 answers, after 5 steps.",
        "target sea: revision 2 answers, after 4 steps.",
        "target sea: revision 3 answers, after 6 steps.",
    ]


def test_failure_is_told_once_and_tried_again(project: Project) -> None:
    put(project, 1)
    PLACES["sea"].order(refusals={"create config": "no quota is left"})
    [failed, done] = bring(project, "production", now=NOW)
    assert (failed.problem, failed.exit_code) == ("create config orders-production-000001: no quota is left.", 1)
    assert (done.problem, answers("lake")) == (None, 1)
    PLACES["sea"].order(refusals={"create config": "no quota is left"})
    for hour in (1, 2):
        PLACES["sea"].order(refusals={"create config": "no quota is left"})
        with pytest.raises(DeploymentError, match=r"sea: create config .* no quota is left"):
            keep_brought(project, "production", key=None, now=NOW + timedelta(hours=hour))
    assert revisions(project, "production").numbers() == [1]
    keep_brought(project, "production", key=None, now=NOW + timedelta(hours=3))
    keep_brought(project, "production", key=None, now=NOW + timedelta(hours=4))
    assert answers("sea") == 1
    assert told(project, "sea") == [
        "target sea does not have revision 1: create config orders-production-000001: no quota is left.",
        "target sea: revision 1 answers, after 4 steps.",
    ]


def test_removed_target_stays_away_until_it_is_deployed_to(project: Project) -> None:
    put(project, 1)
    bring(project, "production", now=NOW)
    assert remove(project, "sea", now=NOW).sentence == "sea: nothing is left, after 4 steps."
    keep_brought(project, "production", key=None, now=NOW)
    assert (PLACES["sea"].names(), answers("lake")) == ([], 1)
    bring(project, "production", now=NOW)
    assert answers("sea") == 1
    keep_brought(project, "production", key=None, now=NOW)
    assert answers("sea") == 1


def test_removal_that_fails_is_told(project: Project) -> None:
    put(project, 1)
    bring(project, "production", target="sea", now=NOW)
    PLACES["sea"].order(refusals={"delete endpoint": "a lock is on it"})
    gone = remove(project, "sea", now=NOW)
    assert gone.exit_code == TargetError.exit_code
    assert told(project, "sea")[-1] == (
        "target sea could not be removed: delete endpoint orders-production: a lock is on it."
    )
    assert remove(project, "sea", now=NOW).problem is None
    assert PLACES["sea"].names() == []


def test_plan_changes_nothing(project: Project) -> None:
    put(project, 1)
    current = revisions(project, "production").current()
    plan = plan_for(project, current, "sea")
    assert (plan.revision, len(plan.steps), PLACES["sea"].names()) == (1, 5, [])


def test_image_for_other_machines_is_refused_before_anything_is_made(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(project, 1)
    current = revisions(project, "production").current()
    note = plan_for(project, current, "sea").notes[-1]
    assert note.startswith("whether the image is there, and built for amd64, could not be asked: 127.0.0.1:9 cannot be")
    facts = image_facts.ImageFacts(digest=f"sha256:{'a' * 64}", architectures=("arm64",))
    monkeypatch.setattr(image_facts, "inspect", lambda *_, **__: facts)
    with pytest.raises(PlanError, match=r"is built for arm64, and .* are amd64.* \(rule image-architecture\)"):
        plan_for(project, current, "sea")
    [refused] = bring(project, "production", target="sea", now=NOW)
    assert (refused.exit_code, PLACES["sea"].names()) == (3, [])
    assert plan_for(project, None, "sea").steps == ()


@pytest.mark.parametrize(
    ("environment", "target", "words"),
    [
        ("production", "ocean", r"no target 'ocean': the targets are sea, lake, dock"),
        ("production", "dock", r"target 'dock' is for staging, not for production: say --to staging"),
    ],
)
def test_target_that_is_not_there_is_refused(project: Project, environment: str, target: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        names_of(project, environment, target)


def test_nothing_deployed_is_refused(project: Project) -> None:
    with pytest.raises(DeploymentError, match="nothing is deployed in production"):
        bring(project, "production", now=NOW)
    keep_brought(project, "production", key=None, now=NOW)
    assert told(project, "sea") == []


SETTINGS = """
[project]
name = "orders"

[task]
kind = "binary"
target = "late"
key = ["order"]

[targets.here]
kind = "local"
"""


SEA_SETTINGS = f"""
[project]
name = "orders"

[task]
kind = "binary"
target = "late"
key = ["order"]

[targets.sea]
kind = "sagemaker"
image = "{SEA.image}"
store = "s3://bucket/orders"
instance = "ml.m5.large"
region = "eu-west-3"
role = "{SEA.role}"
"""


def test_slow_cloud_holds_up_no_tick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks go on while a target takes its time; what was decided meanwhile is brought when it has ended."""
    ready, asked = threading.Event(), threading.Event()

    class Slow(Sea):
        def apply(self, step: Step) -> None:
            asked.set()
            assert ready.wait(60)
            super().apply(step)

    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Slow)
    monkeypatch.setattr("passerelle.loop.gathering.open_storage", lambda *_: LocalStorage(tmp_path / "store"))
    PLACES["sea"] = MemoryPlace()
    (tmp_path / "passerelle.toml").write_text(SEA_SETTINGS)
    project = load_project(tmp_path / "passerelle.toml")
    put(project, 1)
    with open_loop(project, key=throwaway_key()) as loop:
        assert loop.tick(NOW, wait=False).problems == ()
        assert asked.wait(60)
        put(project, 2)
        assert loop.tick(NOW + timedelta(hours=1), wait=False).problems == ()
        assert [one.workflow_id for one in DBOS.list_workflows(name="targets")] == [
            "targets-production-20260105T000000.000000"
        ]
        assert answers("sea") is None
        ready.set()
        assert loop.tick(NOW + timedelta(hours=2)).problems == ()
    assert answers("sea") == 2
    assert len(told(project, "sea")) == 2


def test_error_that_nobody_foresaw_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Sea):
        def observe(self, environment: str) -> Observed:
            raise ZeroDivisionError(environment)

    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Broken)
    monkeypatch.setattr("passerelle.loop.gathering.open_storage", lambda *_: LocalStorage(tmp_path / "store"))
    PLACES["sea"] = MemoryPlace()
    (tmp_path / "passerelle.toml").write_text(SEA_SETTINGS)
    project = load_project(tmp_path / "passerelle.toml")
    put(project, 1)
    with open_loop(project, key=throwaway_key()) as loop:
        loop.tick(NOW, wait=False)
        with contextlib.suppress(PortableWorkflowError):
            DBOS.retrieve_workflow("targets-production-20260105T000000.000000").get_result()
        loop.tick(NOW + timedelta(hours=1), wait=False)
    [said] = [event.sentence for event in events(open_state(project.state), kind="loop", subject="targets")]
    assert said == "the step targets failed: an error that was not foreseen: ZeroDivisionError: production"


def test_loop_brings_and_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick whose target fails takes its other steps all the same; the next one brings the revision there."""
    (tmp_path / "passerelle.toml").write_text(SETTINGS)
    project = load_project(tmp_path / "passerelle.toml")
    monkeypatch.setattr(LocalTarget.__init__, "__kwdefaults__", {"wait_s": 0.1})
    put(project, 1)
    with open_loop(project, key=throwaway_key()) as loop:
        failed = loop.tick(NOW)
        [problem] = failed.problems
        assert problem.startswith("targets: here: after 0.1 s revision 1 is not applied by w0: is passerelle serve ")
        assert failed.decision.reason == "nothing to learn from has been delivered yet"
        assert revisions(project, "production").numbers() == [1]
        observe(project.state / "deployments" / "production", "w0", Observation(pid=os.getpid(), revision=1, at=NOW))
        assert loop.tick(NOW + timedelta(hours=1)).problems == ()
    assert told(project, "here")[-1] == "target here: revision 1 answers; nothing was to do."
