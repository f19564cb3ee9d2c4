"""The tour on the flights, thinned out: whole, and with kill -9 of everything that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from killing import live_through, story
from rearriving import check_another_past
from steps import largest_difference, run, run_json, serving

from passerelle.bundle.manifest import read_manifest
from passerelle.notebook.submission import read_answers

pytestmark = pytest.mark.timeout(6000 if "PASSERELLE_SOAK" in os.environ else 1500)

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"
#: Which processes are killed in a tour, in this order, at random moments; in make soak ten tours, so 20 of each kind.
KILLS = ["kernel", "tour", "worker", "supervisor", "scorer", "tour", "kernel", "scorer", "worker", "supervisor"]
SEEDS = range(10) if "PASSERELLE_SOAK" in os.environ else (2013,)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with every fourth flight of three months: January learns, February and March are answered."""
    folder = tmp_path_factory.mktemp("tour") / "flights"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".passerelle", "__pycache__", "deliveries"))
    inbox = folder / "deliveries"
    subprocess.run([sys.executable, "deliveries.py", "deliveries", "--months", "1", "2", "3"], cwd=folder, check=True)
    subprocess.run([sys.executable, "incidents.py", "deliveries"], cwd=folder, check=True)
    script = (folder / "tour.toml").read_text()
    assert 'prepare = ["deliveries.py", "incidents.py"]\n' in script
    (folder / "tour.toml").write_text(script.replace('prepare = ["deliveries.py", "incidents.py"]\n', ""))
    settings = (folder / "passerelle.toml").read_text()
    # On a busy machine a model's process that was killed may not be back by the deadline of production.
    (folder / "passerelle.toml").write_text(
        settings.replace("[targets.", "[serving]\ndeadline_ms = 60000\n\n[targets.", 1)
    )
    for month in ("01", "02", "03"):
        flown = pd.read_csv(inbox / f"flights-2013-{month}.csv", dtype=str, keep_default_na=False).iloc[::4]
        flown.to_csv(inbox / f"flights-2013-{month}.csv", index=False)
        truth = pd.read_csv(inbox / f"outcomes-2013-{month}.csv", dtype=str)
        truth[truth["flight_id"].isin(flown["flight_id"])].to_csv(inbox / f"outcomes-2013-{month}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def lived(flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tour, never cut."""
    out = tmp_path_factory.mktemp("lived") / "report"
    assert live_through(flights, out, kills=[], pause_s=(1, 2), seed=0, limit_s=600) == []
    return out


def answered(flights: Path) -> int:
    return sum(len(pd.read_csv(flights / "deliveries" / f"flights-2013-{month}.csv")) for month in ("02", "03"))


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_the_tour_comes_to_the_same_wherever_it_is_killed(flights: Path, lived: Path, tmp_path: Path) -> None:
    """One test, so that the tour that is never cut is lived once, whichever processes run the tests."""
    check_the_report(flights, lived)
    for seed in SEEDS:
        out = tmp_path / f"report-{seed}"
        killed = live_through(flights, out, kills=KILLS, pause_s=(1.0, 5.0), seed=seed, limit_s=1200)
        assert killed == KILLS
        assert "goes on" in (out / "said.txt").read_text()
        assert story(out) == story(lived)
    check_the_trial(lived)
    assert check_another_past(lived / "project", tmp_path) > answered(flights) / 2
    check_what_is_served(lived)


def check_the_report(flights: Path, lived: Path) -> None:
    """Every event is answered once, as the notebook would."""
    report = report_of(lived)
    rows = answered(flights)
    totals = report["totals"]
    assert totals["events_sent"] == totals["predictions_in_ledger"] == rows
    assert totals["outcomes_in_ledger"] == rows
    assert (totals["lost"], totals["duplicated"]) == (0, 0)
    assert report["parity"] == {"rows": rows, "max_abs_diff": 0.0, "flips": 0}
    assert report["model"]["auc"] > 0.6
    assert 0.5 < report["model"]["baseline_auc"] < 1
    assert 0 < report["service"]["p50_ms"] <= report["service"]["p99_ms"]
    assert [month["month"] for month in report["months"]] == ["2013-02", "2013-03"]
    assert report["months"][0]["challenger"] is None
    assert (report["months"][1]["challenger"], report["months"][1]["mode"]) == (2, "shadow")
    page = (lived / "report.html").read_text()
    assert "Every event was answered once" in page
    assert "http://" not in page
    assert "https://" not in page


def check_the_trial(lived: Path) -> None:
    """The verdict is recomputed from the ledger alone, and by a script that shares no code with it."""
    replayed = run_json("trial", "replay", cwd=lived / "project")
    assert replayed["same"] is True
    assert replayed["recomputed"]["kind"] == report_of(lived)["months"][1]["verdict"] == "ROLL_BACK"
    auditor = [sys.executable, str(EXAMPLE / "analysis" / "recompute_verdicts.py"), str(lived / "project")]
    audited = subprocess.run(auditor, capture_output=True, text=True, check=False)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def check_what_is_served(lived: Path) -> None:
    """The project that was lived goes on: its versions serve what the notebook says."""
    project = lived / "project"
    run("deploy", "1", "--to", "staging", cwd=project)
    version = next(one for one in run_json("versions", cwd=project) if one["number"] == 1)
    manifest, _ = read_manifest(project / ".passerelle" / "bundles" / version["digest"])
    runs = project / ".passerelle" / "runs"
    answers = read_answers(runs / version["tags"]["run"] / "submission" / "holdout.msgpack")
    with serving(project, "--to", "staging") as client:
        assert largest_difference(client, manifest, answers) <= 1e-12
