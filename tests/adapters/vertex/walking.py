"""Applies revisions in children that kill themselves: a line of JSON in, the child's exit code out.

``at``: at which request to Google (1, 2 ...), ``when``: "before" it is sent, "after" it was answered; "half": when the
package's first file has been put. The parent never opens a store, so that its children may.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from vertexing import Google, deployment

from passerelle.adapters import packages
from passerelle.adapters.vertex_rest import Rest
from passerelle.deployment.applying import apply_deployment


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(at: int, when: str) -> None:
    """Have this process die at its request number ``at``."""
    call = Rest.call
    count = 0

    def counted(self: Rest, method: str, *arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == at and when == "before":
            die()
        try:
            return call(self, method, *arguments, **named)
        finally:
            if count == at and when == "after":
                die()

    Rest.call = counted  # type: ignore[method-assign]
    if when == "half":

        def put_one(address: str, folder: Path) -> None:
            path = next(path for path in sorted(folder.rglob("*")) if path.is_file())
            packages.open_store(address).put(path.relative_to(folder).as_posix(), path)
            die()

        packages.put_folder = put_one


def walk(order: dict[str, Any]) -> None:
    google = Google(order["address"], Path(order["folder"]))
    arm(order["at"], order["when"])
    wanted = None if order["revision"] is None else deployment(order["revision"])
    apply_deployment(google.open(), wanted, "production")


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
