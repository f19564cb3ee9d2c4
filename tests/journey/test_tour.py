"""The tour on the flights, shortened: whole, and with kill -9 of everything that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from steps import PASSERELLE, largest_difference, run, run_json, serving

from passerelle.bundle.manifest import read_manifest
from passerelle.notebook.submission import read_answers

pytestmark = pytest.mark.timeout(900)

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with three weeks of January to learn from and ten days of February to answer."""
    folder = tmp_path_factory.mktemp("tour") / "flights"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".passerelle", "__pycache__"))
    inbox = folder / "deliveries"
    subprocess.run([sys.executable, "deliveries.py", "deliveries", "--months", "1", "2"], cwd=folder, check=True)
    for month, days in (("01", 21), ("02", 10)):
        flown = pd.read_csv(inbox / f"flights-2013-{month}.csv", dtype=str, keep_default_na=False)
        flown = flown[flown["day"].astype(int) <= days]
        flown.to_csv(inbox / f"flights-2013-{month}.csv", index=False)
        truth = pd.read_csv(inbox / f"outcomes-2013-{month}.csv", dtype=str)
        truth[truth["flight_id"].isin(flown["flight_id"])].to_csv(inbox / f"outcomes-2013-{month}.csv", index=False)
    return folder


Start = Callable[[Path, Path], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """The tour as a user starts it; none outlives its test."""
    started = []

    def start_tour(folder: Path, out: Path) -> subprocess.Popen[str]:
        command = [str(PASSERELLE), "tour", str(folder), "--out", str(out), "--workers", "2"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start_tour
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def kill_when(process: subprocess.Popen[str], said: str, victim: str | None) -> list[str]:
    """Wait for a line, then kill -9 a process below (its command line holds ``victim``), or the tour itself."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if said in line:
            break
    else:
        pytest.fail(f"{said!r} was never said:\n{''.join(lines)}")
    below = psutil.Process(process.pid).children(recursive=True)
    if victim is None:
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(below, timeout=15)
        assert not alive, f"outlived the tour: {[' '.join(one.cmdline()) for one in alive]}"
    else:
        found = [one for one in below if victim in " ".join(one.cmdline())]
        assert found, [" ".join(one.cmdline()) for one in below]
        os.kill(found[0].pid, signal.SIGKILL)
    return lines


def test_killed_anywhere_each_event_is_answered_and_recorded_once(flights: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "report"
    kill_when(start(flights, out), "cell 5/", None)
    process = start(flights, out)
    kill_when(process, "events, ", "passerelle.bundle.worker")
    kill_when(process, "events, ", "passerelle.serving.workers")
    kill_when(process, "events, ", None)
    assert not (out / "report.json").exists()
    last = start(flights, out)
    said, _ = last.communicate()
    assert last.returncode == 0, said
    assert "goes on" in said
    report = json.loads((out / "report.json").read_text())
    rows = len(pd.read_csv(flights / "deliveries" / "flights-2013-02.csv"))
    totals = report["totals"]
    assert totals["events_sent"] == totals["predictions_in_ledger"] == rows
    assert totals["outcomes_in_ledger"] >= rows, "an outcome may be recorded twice, never lost"
    assert (totals["lost"], totals["duplicated"]) == (0, 0)
    assert report["parity"] == {"rows": rows, "max_abs_diff": 0.0, "flips": 0}
    assert report["model"]["auc"] > 0.5
    assert 0.5 < report["model"]["baseline_auc"] < 1
    assert 0 < report["service"]["p50_ms"] <= report["service"]["p99_ms"]
    page = (out / "report.html").read_text()
    assert "Every event was answered once" in page
    assert "http://" not in page
    assert "https://" not in page
    run("deploy", "1", "--to", "staging", cwd=out / "project")
    version = run_json("versions", cwd=out / "project")[0]
    manifest, _ = read_manifest(out / "project" / ".passerelle" / "bundles" / version["digest"])
    answers = read_answers(
        out / "project" / ".passerelle" / "runs" / version["tags"]["run"] / "submission" / "holdout.msgpack"
    )
    with serving(out / "project", "--to", "staging") as client:
        assert largest_difference(client, manifest, answers) <= 1e-12
    versions = json.loads(
        subprocess.run(
            [str(PASSERELLE), "versions", "--json"], cwd=out / "project", capture_output=True, check=True
        ).stdout
    )
    assert [one["number"] for one in versions] == [1], "one run, one version, however often it was cut"
    revisions = list((out / "project" / ".passerelle" / "deployments" / "production").glob("0*.json"))
    assert len(revisions) == 1
