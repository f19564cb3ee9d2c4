"""An apply whose process kills itself (SIGKILL) before or after any step is taken up by the next, to the same end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import aws_place

from passerelle.deployment.applying import apply_deployment
from passerelle.testing.targets import dying


def killed(folder: Path, revision: int | None, step: int, *, after: bool) -> int:
    """Apply in a process of its own that dies at a step; how it ended."""
    child = os.fork()
    if child == 0:
        target = dying(aws_place.target(folder), step, after=after, die=lambda: os.kill(os.getpid(), signal.SIGKILL))
        apply_deployment(target, None if revision is None else aws_place.revision(revision), "production")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_at_every_step(tmp_path: Path, aws: str) -> None:
    assert aws
    target = aws_place.target(tmp_path)
    apply_deployment(target, aws_place.revision(1), "production")
    made = len(apply_deployment(target, aws_place.revision(2), "production").plan.steps)
    due = sorted(aws_place.there())
    apply_deployment(target, None, "production")
    assert aws_place.there() == []
    for step in range(1, made + 1):
        for after in (False, True):
            apply_deployment(target, aws_place.revision(1), "production")
            assert killed(tmp_path, 2, step, after=after) == -signal.SIGKILL
            found = apply_deployment(aws_place.target(tmp_path), aws_place.revision(2), "production").observed
            assert (found.state, found.revision) == ("serving", 2)
            assert sorted(aws_place.there()) == due
            apply_deployment(target, None, "production")
            assert aws_place.there() == []
