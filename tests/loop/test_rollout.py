"""Rollout: what becomes a revision and what does not, the way back, and what is derived from revisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from shelf import KEY, Shelf

from passerelle.bundle.keys import public_hex, throwaway_key, trust
from passerelle.errors import DeploymentError
from passerelle.loop.rollout import deploy, reconcile, revisions, roll_back
from passerelle.project.settings import Project, ProjectSection, Task
from passerelle.state.database import open_state
from passerelle.state.timeline import events

NOW = datetime(2013, 2, 1, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    task = Task(kind="binary", target="late", key=("id",))
    return Project(project=ProjectSection(name="trips"), task=task, root=tmp_path)


def live(project: Project) -> list[int]:
    current = revisions(project, "production").current()
    assert current is not None
    return [variant.version for variant in current.variants]


def put(project: Project, version: int, **options: Any) -> int:
    return deploy(project, Shelf(project), version, now=NOW, **options).revision  # type: ignore[arg-type]


def test_the_same_again_is_no_revision_and_other_settings_or_keys_are(project: Project) -> None:
    assert [put(project, 1), put(project, 1)] == [1, 1]
    private = msgspec.structs.replace(project, privacy={"carrier": "hash"})
    assert put(private, 1) == 2
    assert revisions(project, "production").get(2).privacy == {"carrier": "hash"}
    key = trust(project.state, public_hex(throwaway_key()))
    assert put(private, 1) == 3
    key.unlink()
    assert put(private, 1) == 4
    assert revisions(project, "production").get(4).trusted_keys == (public_hex(KEY),)


def test_units_stay_where_they_are(project: Project) -> None:
    put(project, 1)
    put(project, 2, share=0.25)
    first, second = (revisions(project, "production").get(number) for number in (1, 2))
    assert first.salt == second.salt
    assert [(one.version, one.weight) for one in second.variants] == [(1, 0.75), (2, 0.25)]


def test_each_roll_back_goes_further_back_and_never_to_what_one_left(project: Project) -> None:
    for version in (1, 2, 3):
        put(project, version)
    roll_back(project, now=NOW)
    assert live(project) == [2]
    roll_back(project, now=NOW)
    assert live(project) == [1]
    with pytest.raises(DeploymentError, match="nothing to roll back to"):
        roll_back(project, now=NOW)
    put(project, 4)
    roll_back(project, now=NOW)
    assert live(project) == [1]
    with pytest.raises(DeploymentError, match="nothing to roll back to"):
        roll_back(project, now=NOW)


@pytest.mark.parametrize("beside", [{"share": 0.5}, {"shadow": True}])
def test_of_a_trial_only_the_champion_comes_back(project: Project, beside: dict[str, Any]) -> None:
    put(project, 2)
    put(project, 1, trial="production-1-2", **beside)
    put(project, 1, reason="PROMOTE")
    roll_back(project, now=NOW)
    back = revisions(project, "production").get(4)
    assert [(one.version, one.weight, one.mode) for one in back.variants] == [(2, 1.0, "live")]
    assert back.trial is None
    with pytest.raises(DeploymentError, match="nothing to roll back to"):
        roll_back(project, now=NOW)


def test_a_shadow_or_a_share_needs_somebody_to_stand_beside(project: Project) -> None:
    with pytest.raises(DeploymentError, match="deploy a version alone first"):
        put(project, 1, shadow=True)
    put(project, 1)
    for beside in ({"share": 0.5}, {"shadow": True}):
        with pytest.raises(DeploymentError, match="version 1 is the champion here: name another"):
            put(project, 1, **beside)
    put(project, 2, share=0.3)
    with pytest.raises(DeploymentError, match="version 1 is the champion here"):
        put(project, 1, shadow=True)
    with pytest.raises(DeploymentError, match="a shadow answers nobody"):
        put(project, 2, shadow=True, share=0.3)
    put(project, 2, shadow=True)
    assert live(project) == [1, 2]


def test_a_version_that_nobody_trusted_signed_is_not_deployed(project: Project) -> None:
    shelf = Shelf(project)
    for path in (project.state / "trust").iterdir():
        path.unlink()
    with pytest.raises(DeploymentError, match="version 1 could not be served"):
        deploy(project, shelf, 1, now=NOW)  # type: ignore[arg-type]


def test_a_project_may_be_moved(project: Project) -> None:
    put(project, 1)
    current = revisions(project, "production").current()
    assert current is not None
    assert current.variants[0].bundle.startswith(".passerelle/bundles/")


def test_a_registry_that_was_begun_anew_stops_nobody(project: Project) -> None:
    put(project, 4)
    shelf = Shelf(project)
    reconcile(project, shelf)  # type: ignore[arg-type]
    assert shelf.aliases == {}


def test_timeline_and_aliases_follow_from_the_revisions_also_after_a_crash(project: Project) -> None:
    put(project, 1)
    put(project, 2, shadow=True, reason="a try")  # and the process died before it told anybody
    shelf = Shelf(project)
    for _ in range(2):
        reconcile(project, shelf)  # type: ignore[arg-type]
    assert [event.subject for event in events(open_state(project.state), kind="version")] == ["1", "2", "3"]
    told = events(open_state(project.state), kind="deployment")
    assert [event.sentence for event in told] == ["revision 1: version 1", "revision 2: a try"]
    assert shelf.aliases == {"champion": 1, "challenger": 2}
    deploy(project, shelf, 2, now=NOW + timedelta(hours=1))  # type: ignore[arg-type]
    reconcile(project, shelf)  # type: ignore[arg-type]
    assert shelf.aliases == {"champion": 2}


def test_nobody_elses_revision_is_overwritten(project: Project) -> None:
    put(project, 1)
    place = revisions(project, "production")
    stale = msgspec.structs.replace(place.get(1), revision=2)
    put(project, 2)
    with pytest.raises(DeploymentError, match="was made while"):
        place.put(stale, after=1)
