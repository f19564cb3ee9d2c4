"""Applies revisions in children that kill themselves: a line of JSON in, the child's exit code out.

``at``: at which question to the cluster (1, 2 ...), ``when``: "before" it is asked, "after" it was answered; "half":
when the package's first file has been put. ``real``: by the real kubectl. The parent never opens a store, so that its
children may.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kubernetes_case import QuickTarget, deployment, target

from passerelle.adapters import packages
from passerelle.adapters.kubernetes import KubernetesTarget
from passerelle.deployment.applying import apply_deployment
from passerelle.project.settings import load_project


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(made: type[KubernetesTarget], at: int, when: str) -> None:
    """Have this process die at its question number ``at``."""
    ask = made._kubectl
    count = 0

    def counted(self: KubernetesTarget, *arguments: str, **named: Any) -> str:
        nonlocal count
        count += 1
        if count == at and when == "before":
            die()
        answer = ask(self, *arguments, **named)
        if count == at and when == "after":
            die()
        return answer

    made._kubectl = counted  # type: ignore[method-assign]
    if when == "half":

        def put_one(address: str, folder: Path) -> None:
            path = next(path for path in sorted(folder.rglob("*")) if path.is_file())
            packages.open_store(address).put(path.relative_to(folder).as_posix(), path)
            die()

        packages.put_folder = put_one


def walk(order: dict[str, Any]) -> None:
    folder = Path(order["folder"])
    made = KubernetesTarget if order["real"] else QuickTarget
    arm(made, order["at"], order["when"])
    place: Any = SimpleNamespace(url=order["url"])
    one = target(load_project(folder / "passerelle.toml"), place, folder, made=made, form=order["form"])
    wanted = None if order["revision"] is None else deployment(order["revision"])
    apply_deployment(one, wanted, "production")


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                walk(json.loads(line))
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
