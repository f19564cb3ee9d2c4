"""Endpoint: an environment served by a child process, for as long as a with block lasts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import IO, Self

from passerelle.errors import ServingError
from passerelle.project.settings import Project

SUPERVISOR = (sys.executable, "-X", "faulthandler", "-m", "passerelle.serving.supervisor")
#: A stopping endpoint has drained by then, or is ended.
STOP_S = 5.0
_READY = "ready "


class Endpoint:
    """A supervisor that this process started. It ends with the with block, and with this process however that ends."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def stop(self) -> None:
        """Drain and end; idempotent."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_S + 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_endpoint(
    project: Project,
    environment: str,
    *,
    port: int = 0,
    workers: int = 1,
    timeout_s: float = 60.0,
    command: Sequence[str] = SUPERVISOR,
) -> Endpoint:
    """Serve on this machine (port 0: a free one) and return when every worker answers.

    Raises ServingError with what the endpoint said if it ends before that, or takes longer than ``timeout_s``.
    """
    process = subprocess.Popen(  # noqa: S603  (our own supervisor)
        [
            *command,
            *("--root", str(Path(project.root).resolve()), "--environment", environment, "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", str(workers), "--until-stdin-closes"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    heard: deque[str] = deque(maxlen=20)
    said: list[str] = []
    listening = Thread(target=_hear, args=(process.stdout, said), daemon=True)
    listening.start()
    Thread(target=_pass_on, args=(process.stderr, heard), daemon=True).start()
    until = time.monotonic() + timeout_s
    while not said:
        if process.poll() is not None or time.monotonic() > until:
            ended = process.poll() is not None
            Endpoint(process, "").stop()
            reason = "".join(heard).strip() or "it said nothing."
            raise ServingError(reason if ended else f"the endpoint was not ready after {timeout_s:g} s: {reason}")
        listening.join(0.02)
        time.sleep(0.01)
    return Endpoint(process, said[0].removeprefix(_READY).strip())


def _hear(stream: IO[str] | None, said: list[str]) -> None:
    for line in stream or ():
        if line.startswith(_READY):
            said.append(line)
            return


def _pass_on(stream: IO[str] | None, heard: deque[str]) -> None:
    """Keep the last lines of the endpoint's log, and let them be seen."""
    for line in stream or ():
        heard.append(line)
        sys.stderr.write(line)
