"""The tour on a project that it was not made for, cut once: numbers, an event a day, outcomes two weeks late."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import foreign
import pandas as pd
import pytest
from rearriving import check_another_past
from steps import run, run_json

from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.rollout import PRODUCTION

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("tour")]

#: What is delivered: the half-year that the first version learns from, the days it answers alone, those of the trial.
PERIODS = {
    "2001-1": ("2001-01-22", "2001-07-01"),
    "2001-2": ("2001-07-01", "2001-07-19"),
    "2001-3": ("2001-07-19", "2001-08-08"),
}
ANSWERED = 18 + 20
#: Each live prediction: asked when, for when; told when, known since when.
ASKED_AND_TOLD = """
SELECT p.id, min(p.received_at), min(p.event_at), min(o.received_at), min(o.known_at)
FROM all_predictions p JOIN all_outcomes o USING (id) WHERE p.role = 'live' GROUP BY p.id
"""

#: What happens on the way: settings of a day, which must not outlive it.
SCRIPT = """
[[incidents]]
period = "2001-3"
settings = { loop = { cooldown_hours = 5 } }
sentence = "whoever wants it may train again after five hours"
"""
#: The tour, which kills itself just after it has lived the second landing, before anything else.
CUT = """
import os, signal
from passerelle.cli import main
from passerelle.tour.living import _Year

land, tick = _Year._land, _Year._tick
landed = []

def landing(year, stage, now, incidents):
    landed.append(stage)
    land(year, stage, now, incidents)

def ticking(year, now, **named):
    tick(year, now, **named)
    if len(landed) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

_Year._land, _Year._tick = landing, ticking
main(["tour", "chicago", "-o", "report"])
"""


def deliver(folder: Path) -> None:
    """Chicago's data, a delivery to a period."""
    foreign.chicago(folder, until=PERIODS["2001-3"][1])
    for path in sorted((folder / "deliveries").iterdir()):
        whole = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        day = pd.to_datetime(whole["day"])
        for stamp, (since, until) in PERIODS.items():
            part = whole[(day >= since) & (day < until)]
            target = path.with_name(f"{path.name.partition('-')[0]}-{stamp}{path.suffix}")
            part.to_parquet(target, index=False) if path.suffix == ".parquet" else part.to_csv(target, index=False)
        path.unlink()
    foreign.set_lines(folder / "passerelle.toml", max_days="17")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tour, cut just after a delivery has landed on a day of other settings; then the command once more."""
    folder = tmp_path_factory.mktemp("numbers")
    run("new", "chicago", "--task", "regression", cwd=folder)
    deliver(folder / "chicago")
    (folder / "chicago" / "tour.toml").write_text(SCRIPT)
    cut = subprocess.run([sys.executable, "-c", CUT], cwd=folder, capture_output=True, text=True, check=False)
    assert cut.returncode == -signal.SIGKILL, cut.stderr
    assert "cooldown_hours = 5" in (folder / "report" / "project" / "passerelle.toml").read_text()
    run("tour", "chicago", "-o", "report", cwd=folder)
    return folder / "report"


@pytest.fixture(scope="module")
def report(lived: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lived / "report.json").read_text())
    return found


def test_every_day_is_answered_once_as_the_notebook_would(report: dict[str, Any]) -> None:
    totals = report["totals"]
    assert totals["events_sent"] == totals["predictions_in_ledger"] == totals["outcomes_in_ledger"] == ANSWERED
    assert (totals["lost"], totals["duplicated"]) == (0, 0)
    assert report["parity"]["rows"] == ANSWERED
    assert report["parity"]["max_abs_diff"] <= 1e-12
    assert report["parity"]["flips"] == 0  # an answer of 0.5 passengers decides nothing
    assert report["service"]["errors"] == 0


def test_a_cut_leaves_no_settings_of_a_day_behind(lived: Path, report: dict[str, Any]) -> None:
    assert report["cuts"] == 1
    own = (lived.parent / "chicago" / "passerelle.toml").read_text()
    assert (lived / "project" / "passerelle.toml").read_text() == own


def test_each_period_has_the_errors_of_both(report: dict[str, Any]) -> None:
    alone, tried = report["months"]
    assert (alone["month"], alone["champion"], alone["challenger"], alone["events"]) == ("2001-2", 1, None, 18)
    assert alone["rmse"].keys() == alone["mae"].keys() == {"champion"}
    assert (tried["month"], tried["champion"], tried["challenger"], tried["mode"]) == ("2001-3", 1, 2, "shadow")
    assert tried["events"] == 20
    assert tried["rmse"].keys() == tried["mae"].keys() == {"champion", "challenger"}
    for month in (alone, tried):
        for side, error in month["mae"].items():
            assert 0 < error <= month["rmse"][side]
        assert month["brier"] == month["log_loss"] == month["auc"] == {}
    assert report["model"].keys() == {"rmse", "mae"}


def test_the_verdict_is_recomputed_from_the_ledger_alone(lived: Path, report: dict[str, Any]) -> None:
    tried = report["months"][1]
    replayed = run_json("trial", "replay", cwd=lived / "project")
    assert replayed["same"] is True
    assert replayed["recomputed"]["kind"] == tried["verdict"]
    assert replayed["recomputed"]["blocks"] == tried["blocks"]
    assert replayed["recomputed"]["sentence"] == tried["reason"]
    assert "(squared error; 90 % sequence" in tried["reason"]
    assert 14 <= tried["blocks"] <= 17
    mature = pd.Timestamp("2001-07-19 12:00", tz="UTC") + pd.Timedelta(days=tried["blocks"] + 14)
    assert pd.Timestamp(tried["decided_at"]) == mature  # the noon when the last of its days has waited two weeks


def test_the_verdict_is_the_same_whatever_was_corrected_too_late(lived: Path, tmp_path: Path) -> None:
    check_another_past(lived / "project", tmp_path)


def test_no_event_is_asked_after_its_outcome_was_told(lived: Path) -> None:
    rows = ask(ledger_folder(lived / "project" / ".passerelle", PRODUCTION), ASKED_AND_TOLD).rows
    assert len(rows) == ANSWERED
    for id_, asked, event_at, told, known_at in rows:
        assert asked <= told, id_
        assert (known_at - event_at).days == 14, id_


def test_the_report_speaks_of_numbers(lived: Path) -> None:
    page = (lived / "report.html").read_text()
    assert "Every event was answered once" in page
    assert "root of the mean squared error, champion / challenger" in page
    assert "Mean loss (squared error) of what was answered" in page
    assert "Brier" not in page
    assert "1 of 1 challengers promoted" in page or "0 of 1 challengers promoted" in page
    assert "no day's loss could be judged" in page  # one event a day: its silence is not called quiet
    assert f"{ANSWERED} recorded events of chicago" in page
