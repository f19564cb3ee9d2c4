"""Every Target passes the same checks; the adapters' own tests run them on their clouds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import pytest

from passerelle.adapters.local import LocalTarget
from passerelle.deployment.spec import Deployment, Revisions, Variant, environment_folder
from passerelle.deployment.target import Step
from passerelle.project.settings import Project, ProjectSection, Task
from passerelle.project.targets import Local
from passerelle.serving.observation import Observation, is_alive, observe, observed
from passerelle.testing.target_checks import Check
from passerelle.testing.targets import MemoryPlace, MemoryTarget, TargetCase, sample_deployment, target_checks


def memory_case() -> TargetCase:
    place = MemoryPlace()

    def meddle() -> None:
        there = place.read()
        there.resources["alarm trips-production-errors"]["error_share"] = 0.5
        place.write(there)

    def there() -> list[str]:
        found = place.read()
        return [*(f"{key} {settings}" for key, settings in found.resources.items()), *found.strangers]

    four = tuple(Variant(version=one, bundle=str(one), digest=str(one), weight=0.25) for one in range(1, 5))
    return TargetCase(
        open=lambda: MemoryTarget(place, strategy="platform"),
        restoring=lambda: MemoryTarget(place, drift="restore"),
        deployment=sample_deployment,
        there=there,
        meddle=meddle,
        roll_back=lambda: place.order(ends="rolled back"),
        fail=lambda: place.order(ends="failed"),
        clash=lambda: place.order(strangers=["trips-production"]),
        move=lambda: place.order(account="2"),
        refused={
            "three-variants": msgspec.structs.replace(sample_deployment(1), variants=four),
            "trial-needs-container": sample_deployment(1, trial="production-2-1"),
        },
    )


@pytest.mark.parametrize("check", target_checks(), ids=lambda check: check.__name__)
def test_memory(check: Check) -> None:
    check(memory_case())


def work(folder: Path, gate: Path, slot: str) -> None:
    """A worker that follows the revisions, but none beyond what the file ``gate`` says: a slow one."""
    said: int | None = None
    observe(folder, slot, Observation(pid=os.getpid(), revision=None, at=datetime.now(UTC)))
    while True:
        newest = (Revisions(folder).numbers() or [0])[-1]
        if newest not in (said, 0) and newest <= int(gate.read_text()):
            said = newest
            observe(folder, slot, Observation(pid=os.getpid(), revision=said, at=datetime.now(UTC)))
        time.sleep(0.01)


class Machine:
    """This machine: a project's endpoint of two workers, which is started with the first revision and can be ended."""

    def __init__(self, root: Path) -> None:
        task = Task(kind="binary", target="late", key=("id",))
        self.project = Project(project=ProjectSection(name="trips"), task=task, root=root, targets={"here": Local()})
        self.folder = environment_folder(self.project.state, "production")
        self.gate = root / "gate"
        self.gate.write_text("0")
        self.workers: list[Any] = []

    def open(self) -> LocalTarget:
        gate = self.gate

        class Waiting(LocalTarget):
            def apply(self, step: Step) -> None:
                """The workers are as slow as can be: they follow when they are waited for."""
                if (revision := step.resource.settings.get("revision")) and step.act != "delete":
                    gate.with_suffix(".draft").write_text(f"{revision}")
                    gate.with_suffix(".draft").replace(gate)
                super().apply(step)

        return Waiting("here", Local(), self.project, pack=lambda _: None, wait_s=5)

    def deployment(self, number: int) -> Deployment:
        place = Revisions(self.folder)
        for one in range((place.numbers() or [0])[-1] + 1, number + 1):
            place.put(sample_deployment(one), after=one - 1)
        if not self.workers:
            context = get_context("fork")
            self.workers = [
                context.Process(target=work, args=(self.folder, self.gate, slot), daemon=True) for slot in ("w0", "w1")
            ]
            for one in self.workers:
                one.start()
            pids = {one.pid for one in self.workers}
            while {one.pid for one in observed(self.folder).values()} != pids:
                time.sleep(0.01)
        return place.get(number)

    def end(self) -> None:
        """End the endpoint; what is deployed next is the first revision again."""
        for one in self.workers:
            one.kill()
            one.join()
        self.workers = []
        self.gate.write_text("0")
        for path in self.folder.glob("*.json"):
            path.unlink()

    def left(self) -> list[str]:
        """What is of workers that have ended."""
        return [slot for slot, one in observed(self.folder).items() if not is_alive(one.pid)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.end()


#: The endpoint follows files, which nobody changes by hand or takes the name of.
NOT_LOCAL = ("check_change_by_hand", "check_silent_roll_back", "check_failed_change", "check_name_clash", "check_rules")


@pytest.mark.parametrize("check", target_checks(without=NOT_LOCAL), ids=lambda check: check.__name__)
def test_local(check: Check, machine: Machine) -> None:
    check(TargetCase(open=machine.open, deployment=machine.deployment, there=machine.left, release=machine.end))


def test_check_that_is_left_out_must_be_there() -> None:
    with pytest.raises(ValueError, match="there is no check check_rule:"):
        target_checks(without=["check_rule"])
