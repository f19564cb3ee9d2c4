"""An apply whose process kills itself (SIGKILL) after any request that changes something is taken up by the next.

Requests, not steps: the checks of every target die between steps, and a step of ours is up to four requests.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import aws_place

from passerelle.adapters.sagemaker_calls import Calls
from passerelle.deployment.applying import apply_deployment

ASKS = ("Describe", "List", "Get", "Head")
#: Of the requests, in a quick run each of this many.
EACH = 1 if os.environ.get("PASSERELLE_SOAK") else 5


def killed(folder: Path, revision: int | None, request: int) -> int:
    """Apply in a process of its own that dies after a request; how it ended."""
    child = os.fork()
    if child == 0:
        left, ask = request, Calls._request

        def ask_and_die(self: Calls, service: str, operation: str, *arguments: Any, forgiving: bool) -> Any:
            nonlocal left
            answer = ask(self, service, operation, *arguments, forgiving=forgiving)
            left -= not operation.startswith(ASKS)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        Calls._request = ask_and_die  # type: ignore[method-assign]  # in this process only
        deployment = None if revision is None else aws_place.revision(revision)
        apply_deployment(aws_place.target(folder), deployment, "production")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_at_every_request(tmp_path: Path, aws: str) -> None:
    assert aws
    target = aws_place.target(tmp_path)
    apply_deployment(target, aws_place.revision(1), "production")
    apply_deployment(target, aws_place.revision(2), "production")
    due = sorted(aws_place.there())
    apply_deployment(target, None, "production")
    deaths = 0
    for request in range(1, 100, EACH):
        apply_deployment(target, aws_place.revision(1), "production")
        ended = killed(tmp_path, 2, request)
        deaths += ended == -signal.SIGKILL
        found = apply_deployment(aws_place.target(tmp_path), aws_place.revision(2), "production").observed
        assert (found.state, found.revision) == ("serving", 2)
        assert sorted(aws_place.there()) == due
        if ended == 0:
            break
        assert killed(tmp_path, None, request) in (0, -signal.SIGKILL)
        apply_deployment(aws_place.target(tmp_path), None, "production")
        assert aws_place.there() == []
    assert deaths > 10 / EACH
