"""An apply killed by SIGKILL before and after every step, then again: the same is there, and nothing is orphaned."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from passerelle.testing.targets import MemoryPlace, MemoryTarget, sample_deployment


class Applier:
    """A process whose forks apply, and kill themselves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def apply(self, path: Path, revision: int | None, step: int = 0, when: str = "-") -> int:
        given, answers = self.process.stdin, self.process.stdout
        assert given is not None
        assert answers is not None
        given.write(f"{path} {revision or '-'} {step} {when}\n")
        given.flush()
        return int(answers.readline())


@pytest.fixture(scope="module")
def applier() -> Iterator[Applier]:
    script = Path(__file__).with_name("applying_dying.py")
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Applier(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    ("before", "wanted"), [((), 1), ((1,), 2), ((1, 2), 3), ((1, 2), None)], ids=["first", "next", "third", "removal"]
)
def test_killed_anywhere_and_again(
    applier: Applier, tmp_path: Path, before: tuple[int, ...], wanted: int | None
) -> None:
    calm = tmp_path / "calm.json"
    for revision in before:
        assert applier.apply(calm, revision) == 0
    there = MemoryPlace(calm)
    target = MemoryTarget(there)
    plan = target.plan(None if wanted is None else sample_deployment(wanted), target.observe("production"))
    assert len(plan.steps) >= 4
    assert applier.apply(calm, wanted) == 0
    if wanted is None:
        assert there.names() == []
    for step in range(1, len(plan.steps) + 1):
        for when in ("before", "after"):
            path = tmp_path / f"{step}-{when}.json"
            for revision in before:
                assert applier.apply(path, revision) == 0
            assert applier.apply(path, wanted, step, when) == -signal.SIGKILL
            assert applier.apply(path, wanted) == 0
            assert MemoryPlace(path).read() == there.read(), f"killed {when} step {step}"


def test_killed_again_and_again(applier: Applier, tmp_path: Path) -> None:
    """Each attempt is killed after its first step: all the same it ends."""
    path = tmp_path / "place.json"
    killed = 0
    while applier.apply(path, 1, 1, "after") == -signal.SIGKILL:
        killed += 1
    assert killed == 5
    observed = MemoryTarget(MemoryPlace(path)).observe("production")
    assert (observed.state, observed.revision) == ("serving", 1)
