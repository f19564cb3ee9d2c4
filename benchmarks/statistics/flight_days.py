"""Flight days: real daily means of paired differences, of the flights example's own models. Writes flight_days.json.

    python -m benchmarks.statistics.flight_days       (needs the packages of the example; about a minute)

For each month of 2013 the notebook's model is fitted on all months before, as the tour retrains it. Three pairs of
models then answer every flight of the months that follow; a day's evidence is the mean difference of their Brier
losses (shadow), and the mean pseudo-outcome of the same flights where a coin says which model answers (split; several
tosses of the whole day). Nothing is simulated but the coin.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.statistics.frame import FOLDER
from passerelle.trial.split import pseudo_outcomes

PATH = FOLDER / "flight_days.json"
ANALYSIS = FOLDER.parents[1] / "examples" / "flights" / "analysis"
SEED, SHARE, TOSSES = 2013, 0.5, 8
YEAR = range(1, 13)
#: Of the challenger's months always all before; of the champion's: up to this one, or up to so many months ago.
PAIRS: dict[str, Callable[[int], int]] = {
    "January against the retrained": lambda _: 1,
    "January to March against the retrained": lambda _: 3,
    "last month's against this month's": lambda month: month - 2,
}


def losses() -> tuple[Any, Any, dict[int, Any]]:
    """Each flight's month and UTC day, and the Brier losses of the model fitted up to each month (NaN: not asked)."""
    sys.path.insert(0, str(ANALYSIS))
    import rolling_origin  # type: ignore[import-not-found]  # noqa: PLC0415  (a script of the example)

    notebook = rolling_origin.notebook_functions()
    tables, truth, month = rolling_origin.delivered(YEAR)
    inputs = notebook["make_features"](notebook["make_events"](tables))
    happened = tables["flights"]["time_hour"].astype("datetime64[ns, UTC]").reindex(inputs.index)
    found = {}
    for last in range(1, 12):
        asked = (month > last).to_numpy()
        model = notebook["fit_model"](inputs[~asked], truth[~asked], SEED)
        loss = np.full(len(inputs), np.nan)
        loss[asked] = (model.predict_proba(inputs[asked])[:, 1] - truth[asked].to_numpy()) ** 2
        found[last] = loss
        print(f"fitted up to month {last}", flush=True)
    order = np.argsort(happened.to_numpy(), kind="stable")
    return month.to_numpy()[order], happened.dt.floor("D").to_numpy()[order], {k: v[order] for k, v in found.items()}


def main() -> None:
    """Write the days of each pair."""
    month, day, loss = losses()
    rng = np.random.default_rng(SEED)
    series = {}
    for name, last_of_champion in PAIRS.items():
        days: dict[str, list[Any]] = {"rows": [], "champion": [], "shadow": [], "split": []}
        for start in np.unique(day):
            asked = int(month[day == start].max())  # a day in UTC begins with the last evening of a month before
            mine = (day == start) & (month == asked)
            champion, challenger = last_of_champion(asked), asked - 1
            if champion < 1 or challenger <= champion:
                continue
            old, new = loss[champion][mine], loss[challenger][mine]
            days["rows"].append(len(old))
            days["champion"].append(round(float(old.mean()), 5))
            days["shadow"].append(round(float((new - old).mean()), 6))
            tosses = (rng.random((TOSSES, len(old))) < SHARE).astype(int)
            days["split"].append([_split(old, new, arms) for arms in tosses])
        series[name] = days
        print(f"{name}: {len(days['rows'])} days, mean {np.mean(days['shadow']):+.4f}, sd {np.std(days['shadow']):.4f}")
    PATH.write_text(json.dumps(series, separators=(",", ":")).replace("]],", "]],\n") + "\n", encoding="utf-8")


def _split(old: Any, new: Any, arms: Any) -> float:
    seen = np.where(arms == 1, new, old)
    return round(float(pseudo_outcomes(seen, arms, share=SHARE, start=0.15).mean()), 5)


if __name__ == "__main__":
    main()
