"""One apply to a MemoryPlace in a file, by a process that kills itself: FILE REVISION|- STEP before|after|-."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import Target
from passerelle.testing.targets import MemoryPlace, MemoryTarget, dying, sample_deployment


def main(path: str, revision: str, step: str, when: str) -> None:
    target: Target = MemoryTarget(MemoryPlace(Path(path)))
    if when != "-":
        target = dying(target, int(step), after=when == "after", die=lambda: os.kill(os.getpid(), signal.SIGKILL))
    apply_deployment(target, None if revision == "-" else sample_deployment(int(revision)), "production")


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            main(*line.split())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
