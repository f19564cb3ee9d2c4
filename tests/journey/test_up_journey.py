"""`passerelle up` on a project that was never trained: it makes the first version, answers, survives and ends.

In a folder whose name a URI, a pattern of files or a table's partition would read as something else.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from steps import PASSERELLE, run, run_json

#: Before each line.
MOMENT = "2026-11-22 12:00:00  "

pytestmark = pytest.mark.timeout(300)


def wait(until: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def parts(parent: int) -> dict[str, psutil.Process]:
    """The processes of `up`, by their module."""
    found = {}
    for child in psutil.Process(parent).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            line = " ".join(child.cmdline())
            if named := re.search(r"-m passerelle\.(\w+)", line):
                found[named.group(1)] = child
    return found


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, verify=False).status_code == httpx.codes.OK  # noqa: S501  (no TLS here)
    except httpx.HTTPError:
        return False


def test_a_new_project_is_brought_up_and_stays_up(tmp_path: Path) -> None:
    home = tmp_path / "version=9, à 100 %, #1?"
    home.mkdir()
    run("new", "parcels", cwd=home)
    folder = home / "parcels"
    said: list[str] = []
    up = subprocess.Popen(
        [str(PASSERELLE), "up", "--port", "0", "--dashboard-port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    listening = threading.Thread(target=lambda: said.extend(line[len(MOMENT) :] for line in up.stdout or ()))
    listening.start()

    def address(name: str) -> str:
        found = [line.split()[1] for line in said if line.startswith(name) and "http" in line]
        return found[-1] if found else ""

    everything: list[psutil.Process] = []
    try:
        wait(lambda: address("endpoint") and address("dashboard"), f"an address is missing: {said}")
        assert said[0].startswith("endpoint   none yet")
        endpoint, dashboard = address("endpoint"), address("dashboard")
        wait(lambda: answers(f"{dashboard}/"), "the dashboard does not answer")
        sample = folder / "deliveries" / "events-1.csv"
        done = run_json("inject", str(sample), "--rate", "100", "--seconds", "2", "--to", endpoint, cwd=folder)
        assert (done["answered"], done["errors"], done["failed_events"]) == (200, {}, 0)

        before = parts(up.pid)
        assert set(before) == {"serving", "loop", "dashboard"}
        for process in before.values():
            everything += [process, *process.children(recursive=True)]
            os.kill(process.pid, signal.SIGKILL)
        old = {process.pid for process in before.values()}
        wait(lambda: len({one.pid for one in parts(up.pid).values()} - old) == 3, "not all were started again")
        wait(lambda: answers(f"{endpoint}/ready") and answers(f"{dashboard}/"), "not all answer again")
        after = parts(up.pid)
        everything += [one for process in after.values() for one in (process, *process.children(recursive=True))]
        for name in ("endpoint", "loop", "dashboard"):
            assert any(line.startswith(f"{name} was ended by signal 9 (SIGKILL") for line in said), said
        up.kill()
    finally:
        if up.poll() is None:
            up.terminate()
        up.wait(60)
        listening.join(30)
        if up.stdout is not None:
            up.stdout.close()
    _, alive = psutil.wait_procs(everything, timeout=30)
    assert alive == []
    seen = run_json("ledger", "--compact", cwd=folder)["totals"]
    assert (seen["uncompacted"], seen["live"]) == (0, 200)
    run("score", str(sample), "-o", "scored.csv", cwd=folder)
    [[unit]] = run_json("ledger", "--sql", "SELECT unit FROM predictions LIMIT 1", cwd=folder)["rows"]
    assert "predictions and 0 outcomes erased" in run("forget", unit, "--yes", cwd=folder)
    left = run_json("ledger", "--sql", "SELECT DISTINCT unit FROM predictions", cwd=folder)["rows"]
    assert left
    assert [unit] not in left
    assert run_json("trial", "status", cwd=folder) == []
    assert [path.name for path in tmp_path.iterdir()] == [home.name]
