"""What travels to a target is packed where it is sent: a look signs and leaves nothing, and what is needed stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from sea import PLACES, SEA, Sea
from shelf import Shelf

from passerelle.deployment.package import Package
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Observed, Plan, TargetError
from passerelle.loop.rollout import deploy
from passerelle.loop.targets import bring, keep_brought, plan_for, status
from passerelle.project.scaffold import create
from passerelle.project.settings import Project, load_project
from passerelle.project.targets import Local, SageMaker
from passerelle.state.lease import lease
from passerelle.testing.targets import MemoryPlace

NOW = datetime(2026, 1, 5, tzinfo=UTC)
REFUSED: set[str] = set()
SEEN: list[tuple[str, tuple[tuple[str, int], ...]]] = []


class Packing(Sea):
    """A cloud of memory that packs what it plans, as the others do."""

    def __init__(
        self, name: str, settings: SageMaker, project: Project, *, pack: Callable[[Deployment], Package]
    ) -> None:
        super().__init__(name, settings, project, pack=pack)
        self._called, self._pack = name, pack

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        if deployment is not None:
            made = self._pack(deployment)
            files = (path for path in made.folder.rglob("*") if path.is_file())
            SEEN.append((made.name, tuple(sorted((path.name, path.stat().st_size) for path in files))))
        return super().plan(deployment, observed)

    def apply(self, step: object) -> None:
        if self._called in REFUSED:
            raise TargetError(f"{self._called} takes nothing.")
        super().apply(step)  # type: ignore[arg-type]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Packing)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PASSERELLE_KEY", raising=False)
    REFUSED.clear()
    SEEN.clear()
    PLACES.update(sea=MemoryPlace(), lake=MemoryPlace())
    create(tmp_path / "p", "orders", task="binary", language="en", time=False, today=NOW.date())
    project = load_project(tmp_path / "p" / "passerelle.toml")
    return msgspec.structs.replace(project, targets={"sea": SEA, "lake": Local()})


def put(project: Project, version: int) -> Deployment:
    return deploy(project, Shelf(project), version, now=NOW)  # type: ignore[arg-type]


def packed(project: Project) -> list[int]:
    folder = project.state / "packages" / "production"
    return sorted(int(one.name.partition("-")[0]) for one in folder.iterdir())


def test_look_signs_nothing_and_leaves_nothing_and_sees_what_would_be_sent(project: Project, tmp_path: Path) -> None:
    made = put(project, 1)
    assert status(project, "sea").due
    assert plan_for(project, made, "sea").steps
    assert not (project.state / "packages").exists()
    assert not (tmp_path / "config").exists()  # where a key is made when something is signed for the first time
    assert bring(project, "production", target="sea", now=NOW)[0].problem is None
    assert (tmp_path / "config" / "passerelle" / "key.pem").exists()
    assert (status(project, "sea").due, len(SEEN), len(set(SEEN))) == ((), 5, 1)  # to the byte, but for the signature


def test_package_of_what_answers_or_is_wanted_or_is_being_brought_stays(project: Project) -> None:
    put(project, 1)
    assert [one.problem for one in bring(project, "production", now=NOW)] == [None, None]
    REFUSED.add("lake")
    for number in range(2, 7):
        put(project, 2 - number % 2)
        assert [one.problem is None for one in bring(project, "production", now=NOW)] == [True, False]
    assert packed(project) == [1, 4, 5, 6]  # lake answers by revision 1
    REFUSED.clear()
    with lease(project.state, "target-lake"):
        put(project, 1)
        assert bring(project, "production", target="sea", now=NOW)[0].problem is None
        assert packed(project) == [1, 4, 5, 6, 7]  # of lake nobody knows now what is being brought there
    keep_brought(project, "production", key=None, now=NOW)
    assert packed(project) == [5, 6, 7]
