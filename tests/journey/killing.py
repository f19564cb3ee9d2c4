"""Killing: the tour, started as a user does, while kill -9 falls on it and on what is below it, at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
from steps import PASSERELLE

#: What a process below the tour is, by a word of its command line.
KINDS = {
    "tour": None,
    "supervisor": "passerelle.serving.supervisor",
    "worker": "passerelle.serving.workers",
    "scorer": "passerelle.bundle.worker",
    "kernel": "ipykernel_launcher",
}


def start(folder: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """The tour as a user starts it; what it says goes to a file beside its report."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "said.txt").open("a") as said:
        command = [str(PASSERELLE), "tour", str(folder), "--out", str(out), "--workers", "1", *more]
        return subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True)


def live_through(
    folder: Path, out: Path, *more: str, kills: list[str], pause_s: tuple[float, float], seed: int, limit_s: float
) -> list[str]:
    """Live it to its end, killing one process of each of ``kills`` in turn; answers which were really killed.

    A kind that does not run at its moment is waited for. The tour itself is started again when it is what died.
    """
    dice = random.Random(seed)  # noqa: S311  (moments to kill at, no secrets)
    waiting, killed = list(kills), []
    process = start(folder, out, *more)
    until = time.monotonic() + limit_s
    moment = time.monotonic() + dice.uniform(*pause_s)
    try:
        while process.poll() is None:
            assert time.monotonic() < until, (out / "said.txt").read_text()[-3000:]
            time.sleep(0.05)
            if waiting and time.monotonic() >= moment and kill(process, KINDS[waiting[0]]):
                killed.append(waiting.pop(0))
                moment = time.monotonic() + dice.uniform(*pause_s)
                if killed[-1] == "tour":
                    process.wait()
                    process = start(folder, out, *more)
        assert process.returncode == 0, (out / "said.txt").read_text()[-3000:]
    finally:
        for one in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            one.kill()
        process.kill()
        process.wait()
    return killed


def kill(process: subprocess.Popen[str], word: str | None) -> bool:
    """Kill -9 the tour, or a process below it; False if there is none of the kind now."""
    if word is None:
        process.kill()
        return True
    try:
        below = psutil.Process(process.pid).children(recursive=True)
        found = [one for one in below if word in " ".join(one.cmdline())]
        if found:
            os.kill(found[0].pid, signal.SIGKILL)
        return bool(found)
    except (psutil.Error, ProcessLookupError):
        return False


def story(out: Path) -> dict[str, Any]:
    """What must be the same however often it was cut: totals, versions, trials, verdicts, alerts."""
    report = json.loads((out / "report.json").read_text())
    versions = json.loads(
        subprocess.run(
            [str(PASSERELLE), "versions", "--json"], cwd=out / "project", capture_output=True, check=True
        ).stdout
    )
    totals = {name: report["totals"][name] for name in ("events_sent", "predictions_in_ledger", "lost", "duplicated")}
    kept = ("month", "champion", "challenger", "mode", "events", "blocks", "verdict", "decided_at", "brier", "reason")
    return {
        "totals": totals,
        "parity": report["parity"],
        "months": [{name: month[name] for name in kept} for month in report["months"]],
        "alerts": [
            (one["watch"], one["opened_at"], one["closed_at"], one["first_day"])
            for one in report["alerts"]
            if one["watch"] not in ("latency", "errors", "silence")  # of machine time, which a kill does change
        ],
        "versions": [(one["number"], one["metrics"]) for one in versions],
    }
