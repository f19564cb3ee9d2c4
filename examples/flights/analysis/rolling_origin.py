"""How good is the flights model over the year? For each month, a model fitted on all months before it.

It runs the very cells of notebooks/flights.ipynb that are tagged "features" (make_events, make_features, the model,
both baselines and the scores), so that it cannot drift away from the notebook. Of each table it reads the columns of
ALLOWED_COLUMNS and no other: what is known only after departure is not there to be used.

    python analysis/rolling_origin.py                     the whole year: months 2 to 12
    python analysis/rolling_origin.py --months 2 3        quickly
    python analysis/rolling_origin.py --json figures.json

Ends with 1 if the whole year is run and its means miss AUC_AT_LEAST or LOG_LOSS_AT_MOST.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOK = PROJECT / "notebooks" / "flights.ipynb"
SEED = 2013
YEAR = tuple(range(2, 13))

#: Means over months 2 to 12 that the model must reach.
AUC_AT_LEAST = 0.705
LOG_LOSS_AT_MOST = 0.518

#: All that make_events and make_features may read: the published schedule, observed weather, time zones.
ALLOWED_COLUMNS = {
    "flights": ("time_hour", "sched_dep_time", "sched_arr_time", "carrier", "origin", "dest", "distance"),
    "weather": (
        *("origin", "time_hour"),
        *("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"),
    ),
    "airports": ("faa", "tzone"),
}

Tables = dict[str, pd.DataFrame]


def notebook_functions(path: Path = NOTEBOOK) -> dict[str, Any]:
    """What the notebook's cells tagged "features" define, by name; no other cell is run."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "flights_notebook"}
    for cell in cells:
        if cell["cell_type"] == "code" and "features" in cell["metadata"].get("tags", ()):
            exec("".join(cell["source"]), names)  # noqa: S102  (the project's own notebook)
    return names


def delivered(months: Sequence[int]) -> tuple[Tables, pd.Series, pd.Series]:
    """The tables of these months with their allowed columns, each flight's truth (0 or 1), and its month.

    They are written by deliveries.py and read back, as they would be delivered. Flights have flight_id as their index.
    """
    sys.path.insert(0, str(PROJECT))
    from deliveries import write_deliveries  # noqa: PLC0415  (beside the project's settings, not in a package)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_deliveries(folder, months)

        def read(table: str, *more: str) -> pd.DataFrame:
            columns = [*ALLOWED_COLUMNS.get(table, ()), *more]
            files = {month: folder / f"{table}-2013-{month:02}.csv" for month in months}
            parts = {month: pd.read_csv(path, usecols=columns)[columns] for month, path in files.items()}
            return pd.concat(parts, names=["delivered", None])

        flights = read("flights", "flight_id").reset_index("delivered").set_index("flight_id")
        truth = read("outcomes", "flight_id", "disrupted").set_index("flight_id")["disrupted"]
        airports = pd.read_csv(folder / "airports.csv", usecols=list(ALLOWED_COLUMNS["airports"]))
        month = flights.pop("delivered")
        tables = {"flights": flights, "weather": read("weather").reset_index(drop=True), "airports": airports}
    return tables, truth.reindex(flights.index).astype(int), month


def rolling_origin(months: Sequence[int]) -> pd.DataFrame:
    """A row of scores for each of these months (2 to 12) and each model, fitted on every month before it."""
    notebook = notebook_functions()
    tables, truth, month = delivered(range(1, max(months) + 1))
    X = notebook["make_features"](notebook["make_events"](tables))  # noqa: N806  (what everybody calls it)
    rows = []
    for asked in months:
        answers = notebook["compare_models"](X, truth, month < asked, month == asked, SEED)
        for name, probability in answers.items():
            found = notebook["scores"](truth[month == asked], probability)
            rows.append({"month": asked, "model": name, **found})
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Rolling origin: each month by a model fitted on the months before.")
    parser.add_argument("--months", type=int, nargs="+", choices=YEAR, default=list(YEAR), metavar="M")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    chosen = parser.parse_args()

    started = time.perf_counter()
    months = sorted(set(chosen.months))
    found = rolling_origin(months)
    means = found.drop(columns="month").groupby("model", sort=False).mean()
    seconds = time.perf_counter() - started

    shown = found.pivot_table(index="month", columns="model", values=["AUC", "log loss"])[["AUC", "log loss"]]
    print(shown.to_string(float_format="{:.4f}".format))
    print(f"\nMeans of {len(months)} months, {seconds:.0f} s:")
    print(means.to_string(float_format="{:.4f}".format))
    if chosen.json:
        figures = {
            "months": found.to_dict(orient="records"),
            "means": means.to_dict(orient="index"),
            "seconds": round(seconds, 1),
        }
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if tuple(months) != YEAR:
        return 0
    model = means.loc["model"]
    reached = bool(model["AUC"] >= AUC_AT_LEAST and model["log loss"] <= LOG_LOSS_AT_MOST)
    wanted = f"AUC at least {AUC_AT_LEAST}, log loss at most {LOG_LOSS_AT_MOST}"
    print(f"{'Reached' if reached else 'MISSED'}: {wanted}.")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
