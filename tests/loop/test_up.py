"""Up: parts are started, started again, and ended in order, by whatever ends this process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent


class Up:
    """`up`, running, and what it has said."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.untimed: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "upping.py"), str(folder), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            text=True,
        )
        self.hearing = threading.Thread(target=self._hear)
        self.hearing.start()

    def _hear(self) -> None:
        for line in self.process.stdout or ():
            timed = re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)  (.*)", line.strip())
            self.untimed += [] if timed else [line.strip()]
            self.lines.append(timed[2] if timed else line.strip())

    def notes(self, name: str) -> list[tuple[float, str, int]]:
        """What a part noted: when, what, which process."""
        path = self.folder / f"{name}.log"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(float(at), what, int(pid)) for at, what, pid in rows]

    def pids(self, name: str) -> list[int]:
        return [pid for _, what, pid in self.notes(name) if what == "started"]

    def said(self, start: str) -> list[str]:
        return [line for line in self.lines if line.startswith(start)]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)
        self.hearing.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()


Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Up] = []

    def start_up(*more: str) -> Up:
        started.append(Up(tmp_path, *more))
        return started[-1]

    yield start_up
    for one in started:
        one.close()


def wait(until: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_addresses_are_said_and_the_parts_end_in_order(start: Start, tmp_path: Path) -> None:
    (tmp_path / "revision").touch()
    up = start("loop")
    wait(lambda: up.said("endpoint   http://127.0.0.1:") and up.said("dashboard  http://127.0.0.1:"))
    wait(lambda: up.pids("loop"))
    time.sleep(0.2)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(10) == 0
    parts = [up.notes(name) for name in ("loop", "dashboard", "endpoint")]
    assert [[what for _, what, _ in notes] for notes in parts] == [["started", "told", "ended"]] * 3
    ends = [notes[-1][0] for notes in parts]
    told = [notes[1][0] for notes in parts]
    assert up.untimed == []
    assert ends[0] < told[1]
    assert ends[1] < told[2]


def test_the_endpoint_waits_for_a_revision(start: Start, tmp_path: Path) -> None:
    up = start()
    wait(lambda: up.said("dashboard  "))
    assert up.said("endpoint") == ["endpoint   none yet: it starts with the first revision"]
    assert up.pids("endpoint") == []
    (tmp_path / "revision").touch()
    wait(lambda: up.said("endpoint   http"))
    assert len(up.pids("endpoint")) == 1
    assert up.pids("loop") == []


def test_a_part_that_dies_is_started_again_at_its_address(start: Start, tmp_path: Path) -> None:
    (tmp_path / "revision").touch()
    up = start("loop")
    wait(lambda: up.said("endpoint   http") and up.said("dashboard  http") and up.pids("loop"))
    for name in ("endpoint", "loop", "dashboard"):
        os.kill(up.pids(name)[0], signal.SIGKILL)
        wait(lambda name=name: len(up.pids(name)) == 2)
        killed = "signal 9 (SIGKILL: by hand, or because memory ran out)"
        assert up.said(name)[-1] == f"{name} was ended by {killed}; it is started again in 0.2 s"
    time.sleep(0.3)
    assert len(up.said("endpoint   http")) == 1, "the same address is not said twice"
    up.process.terminate()
    assert up.process.wait(10) == 0
    assert all(is_gone(pid) for name in ("endpoint", "loop", "dashboard") for pid in up.pids(name))


def test_a_part_that_dies_again_and_again_is_given_longer_pauses(start: Start, tmp_path: Path) -> None:
    (tmp_path / "loop.fails").touch()
    up = start("loop")
    wait(lambda: len(up.pids("loop")) >= 4)
    moments = [at for at, _, _ in up.notes("loop")]
    gaps = [after - before for before, after in pairwise(moments)]
    assert gaps[1] > gaps[0] + 0.15
    assert gaps[2] > gaps[1] + 0.35
    assert up.said("loop ended")[:2] == [
        "loop ended with code 3; it is started again in 0.2 s",
        "loop ended with code 3; it is started again in 0.4 s",
    ]


def test_what_cannot_start_at_all_ends_everything_with_the_reason(start: Start, tmp_path: Path) -> None:
    (tmp_path / "revision").touch()
    (tmp_path / "endpoint.fails").write_text("the ledger is full: remove something\n\n")
    up = start("loop")
    assert up.process.wait(10) == 1
    up.hearing.join(5)
    assert "the ledger is full: remove something" in up.lines
    assert up.lines[-1] == (
        "passerelle: endpoint ended with code 3 (its last line: the ledger is full: remove something) before it was "
        "ready: correct that, and run the command again."
    )
    assert all(is_gone(pid) for name in ("endpoint", "loop", "dashboard") for pid in up.pids(name))


def test_kill_9_of_up_ends_its_parts(start: Start, tmp_path: Path) -> None:
    (tmp_path / "revision").touch()
    up = start("loop")
    wait(lambda: up.said("endpoint   http") and up.said("dashboard  http") and up.pids("loop"))
    up.process.kill()
    up.process.wait()
    for name in ("endpoint", "loop", "dashboard"):
        wait(lambda name=name: [what for _, what, _ in up.notes(name)] == ["started", "orphaned", "ended"])
        assert up.pids(name)
        wait(lambda name=name: is_gone(up.pids(name)[0]))
