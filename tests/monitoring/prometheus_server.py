"""Debian's own Prometheus and Alertmanager, on ports of 127.0.0.1 that are free: started by a test, gone after it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
#: What a machine without them is told.
ABSENT = "Prometheus and Alertmanager are not installed: make test-system"
IS_ABSENT = not all(shutil.which(program) for program in PROGRAMS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def check(*command: str | Path) -> str:
    """Run one of their tools; what it said. Its exit code is part of the check."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(folder: Path, *, alertmanager_port: int) -> Iterator[None]:
    """Both, with the files of a folder."""
    folder.joinpath("data").mkdir()
    prometheus = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data/tsdb"]
    prometheus.append(f"--web.listen-address=127.0.0.1:{free_port()}")
    manager = ["prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", "--cluster.listen-address="]
    manager += [f"--storage.path={folder}/data/am", f"--web.listen-address=127.0.0.1:{alertmanager_port}"]
    with _process(manager, folder / "alertmanager.log"), _process(prometheus, folder / "prometheus.log"):
        yield


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as told, subprocess.Popen(command, stdout=told, stderr=told) as process:
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(find: Callable[[], Found], logs: Path, *, most_s: float = 90.0) -> Found:
    """What is found as soon as it is there; what the programs said if it never is."""
    until = time.monotonic() + most_s
    while not (found := find()):
        assert time.monotonic() < until, "\n".join(path.read_text()[-3000:] for path in sorted(logs.glob("*.log")))
        time.sleep(0.1)
    return found
