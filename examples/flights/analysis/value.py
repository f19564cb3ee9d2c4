"""What is retraining worth? The year without Passerelle: a model never retrained, and one retrained monthly.

- frozen: the January model, for the whole year;
- instant: each month answered by a model fitted as that month begins, used at once, without any trial.

Both are fitted on what had been delivered and was known when the month's first flight was asked, less the days that
the gate holds out: as ``passerelle train`` would at that moment, by the very cells of notebooks/flights.ipynb that are
tagged "features". Settings are read from passerelle.toml; no line of Passerelle is run.

    python analysis/value.py                               the year
    python analysis/value.py --months 6 --json             the first six deliveries; the figures as the last line
    python analysis/value.py --compare tour-report/report.json

``--compare`` ends with 1 unless the tour's frozen is the same to 1e-6, and its loop kept 65 % of the gain of instant
over frozen: what the tour served, trials and bad challengers included, against what nobody dares to do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rolling_origin import PROJECT, SEED, notebook_functions

sys.path.insert(0, str(PROJECT))
from deliveries import write_deliveries

#: The first month that counts: before it, there is too little to have learnt from.
SINCE = 5
SAME = 1e-6
KEPT_AT_LEAST = 0.65

Tables = dict[str, pd.DataFrame]


def read_year(months: Sequence[int]) -> tuple[Tables, pd.DataFrame]:
    """The delivered tables, and the flights (in the notebook's order) with month, truth, known_at and asked_at."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_deliveries(folder, months)

        def read(table: str) -> pd.DataFrame:
            files = {month: folder / f"{table}-2013-{month:02}.csv" for month in months}
            parts = [pd.read_csv(path).assign(delivered=month) for month, path in files.items()]
            return pd.concat(parts, ignore_index=True)

        outcomes = read("outcomes").drop(columns="delivered")
        flights = read("flights").merge(outcomes, on="flight_id", how="left", validate="one_to_one")
        tables = {"weather": read("weather"), "airports": pd.read_csv(folder / "airports.csv")}
    flights["time_hour"] = pd.to_datetime(flights["time_hour"], utc=True)
    flights["known_at"] = pd.to_datetime(flights["known_at"], utc=True)
    flights["asked_at"] = flights["time_hour"] - pd.Timedelta(hours=settings()["task"]["lead_hours"])
    flights["truth"] = flights["disrupted"].astype(int)
    flights = flights.sort_values(["time_hour", "sched_dep_time", "flight_id"], ignore_index=True)
    return {**tables, "flights": flights}, flights


def settings() -> dict[str, Any]:
    """passerelle.toml."""
    return tomllib.loads((PROJECT / "passerelle.toml").read_text(encoding="utf-8"))


def learnt_from(flights: pd.DataFrame, before: int) -> pd.Series:
    """Which flights a model is fitted on as the month ``before`` begins (a mask).

    Those of the deliveries before it whose outcome is known and mature when its first flight is asked, less those of
    the last days before the newest of them, which are held out.
    """
    task = settings()["task"]
    now = flights.loc[flights["delivered"] == before, "asked_at"].min()
    mature = flights["time_hour"] + pd.Timedelta(hours=task["horizon_hours"]) <= now
    rows = (flights["delivered"] < before) & (flights["known_at"] <= now) & mature
    newest = flights.loc[rows, "time_hour"].max()
    return rows & (flights["time_hour"] <= newest - pd.Timedelta(days=task["holdout_days"]))


def probabilities(months: Sequence[int]) -> pd.DataFrame:
    """Of each flight of these months but the first: month, truth, and the answers of frozen and of instant."""
    notebook = notebook_functions()
    tables, flights = read_year(months)
    X = notebook["make_features"](notebook["make_events"](tables))  # noqa: N806  (what everybody calls it)
    found = flights.loc[flights["delivered"] > months[0], ["flight_id", "delivered", "truth"]].copy()
    frozen = None
    for month in months[1:]:
        past = learnt_from(flights, month)
        model = notebook["fit_model"](X[past], flights.loc[past, "truth"], SEED)
        frozen = frozen or model
        asked = found.index[found["delivered"] == month]
        for name, answers in {"frozen": frozen, "instant": model}.items():
            found.loc[asked, name] = answers.predict_proba(X.loc[asked])[:, 1]
    return found.rename(columns={"delivered": "month"})


def losses(found: pd.DataFrame) -> pd.DataFrame:
    """The log loss of each flight, by frozen and by instant."""
    truth = found["truth"] == 1
    rows = {name: -np.log(np.where(truth, found[name], 1 - found[name])) for name in ("frozen", "instant")}
    return pd.DataFrame({"month": found["month"], **rows})


def figures(found: pd.DataFrame) -> dict[str, Any]:
    """Mean log loss over the flights of the months that count, and of each month; None where no month counts."""
    rows = losses(found)
    counted = rows[rows["month"] >= SINCE]
    by_month = rows.groupby("month").agg(
        events=("frozen", "size"), frozen=("frozen", "mean"), instant=("instant", "mean")
    )
    means = {name: float(counted[name].mean()) if len(counted) else None for name in ("frozen", "instant")}
    return {"since": SINCE, "events": len(counted), **means, "months": by_month.reset_index().to_dict(orient="records")}


def differences(computed: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """What a tour's report does not reach, a sentence each."""
    told = report["value"]
    if told is None:
        return ["the report has no value: the tour was too short"]
    found = []
    if told["events"] != computed["events"]:
        found.append(f"the tour counted {told['events']:,} events, and there are {computed['events']:,}")
    if abs(told["frozen"] - computed["frozen"]) > SAME:
        found.append(f"frozen is {told['frozen']:.9f} in the tour, and {computed['frozen']:.9f} here")
    kept = (told["frozen"] - told["loop"]) / (computed["frozen"] - computed["instant"])
    if kept < KEPT_AT_LEAST:
        found.append(f"the loop kept {kept:.1%} of the gain of instant over frozen, less than {KEPT_AT_LEAST:.0%}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="What retraining is worth, computed without Passerelle.")
    parser.add_argument("--months", type=int, default=12, choices=range(2, 13), metavar="N", help="so many deliveries")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, in one line")
    parser.add_argument("--compare", type=Path, metavar="REPORT", help="a tour's report.json to check")
    chosen = parser.parse_args()

    report = json.loads(chosen.compare.read_text(encoding="utf-8")) if chosen.compare else None
    # The January of a tour is not among its months: nothing was answered then.
    deliveries = len(report["months"]) + 1 if report else chosen.months
    computed = figures(probabilities(range(1, deliveries + 1)))
    if chosen.json:
        print(json.dumps(computed))
    else:
        print(pd.DataFrame(computed["months"]).to_string(index=False, float_format="{:.4f}".format))
        if computed["events"]:
            print(f"Since month {SINCE}: frozen {computed['frozen']:.6f}, instant {computed['instant']:.6f}")
    if report is None:
        return 0
    wrong = differences(computed, report)
    print("\n".join(wrong) or "The tour's frozen is the same, and its loop kept enough of the gain.", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
