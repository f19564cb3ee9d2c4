"""Recompute every verdict of a lived project from its ledger, by other code than the one that reached it.

    python analysis/recompute_verdicts.py tour-report/project

What it takes from the project's state (state.db): each trial's plan, and how far the ledger was read as each of its
blocks closed. Everything else it computes from the ledger's Delta tables: which predictions and outcomes count, each
day's difference, the evidence after each day, the verdict and the day that decided. It shares no code with Passerelle.

Prints a line per trial, and ends with 1 if any block or verdict is not the one that was kept, with 2 if it cannot tell.
Trials of this project are of the Brier score and of days (docs/trial.md); others it does not know.
"""

from __future__ import annotations

import argparse
import json
import math
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from deltalake import DeltaTable
from scipy import stats
from scipy.special import gammaln

DAY = pd.Timedelta(days=1)
#: The alternatives of the test, in standard deviations of a day's difference; the paper's mixture, equal weights.
EFFECTS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3)
#: Units of a split that do not get their arms as planned: evidence beyond 1 / 0.001 makes it INVALID.
RATIO_ALPHA = 0.001
KAPPA = 1000.0
#: Densities below this are rounding.
_VANISHING = 1e-100
#: Sums of thousands of losses, in another order.
SAME = 1e-9
#: What a block says that was kept before these were counted: no verdict rested on them then.
UNCOUNTED = {"unpaired": 0, "champion_late": 0, "labelled_units": None}

PREDICTIONS = ["id", "unit", "role", "status", "version", "trial", "probability", "output", "event_at"]
OUTCOMES = ["id", "value", "known_at"]
ORIGIN = ["received_at", "writer", "sequence", "position"]

Trial = dict[str, Any]


class UnknownError(Exception):
    """The script cannot tell: what it needs is not there, or not of a kind that it knows."""


def read_ledger(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions and outcomes, each in the order in which they came. Raises UnknownError if the tables lack some."""
    waiting = list((folder / "segments").glob("*.seg")) + list((folder / "segments").glob("*.open"))
    if any(path.stat().st_size for path in waiting):
        raise UnknownError(f"{len(waiting)} segments are not in the tables yet: passerelle ledger compact, then again")

    def read(table: str, columns: list[str]) -> pd.DataFrame:
        delta = DeltaTable(folder / table)
        rows = pd.concat([pd.read_parquet(path, columns=[*columns, *ORIGIN]) for path in delta.file_uris()])
        return rows.sort_values(ORIGIN, ignore_index=True)

    return read("predictions", PREDICTIONS), read("outcomes", OUTCOMES)


def read_trials(database: Path) -> list[tuple[Trial, list[dict[str, Any]]]]:
    """Each trial as the state keeps it, oldest first, with its blocks in order."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        trials = [json.loads(value) for (value,) in connection.execute("SELECT value FROM trials ORDER BY started_at")]
        query = "SELECT value FROM blocks WHERE trial = ? ORDER BY start"
        return [
            (trial, [json.loads(value) for (value,) in connection.execute(query, (trial["plan"]["id"],))])
            for trial in trials
        ]


class Ledger:
    """The records, and what of them counted for a day when its block closed."""

    def __init__(self, predictions: pd.DataFrame, outcomes: pd.DataFrame) -> None:
        self.predictions = predictions.assign(day=predictions["event_at"].dt.floor("D"))
        self.outcomes = outcomes
        self.by_day = {day: rows.index for day, rows in self.predictions.groupby("day")}
        twice = self.predictions["id"].duplicated(keep=False) & (self.predictions["role"] == "live")
        twice &= self.predictions.duplicated(["id", "role"], keep=False)
        shadows = self.predictions["role"] == "shadow"
        twice |= shadows & self.predictions.duplicated(["id", "role", "version"], keep=False)
        self.repeated = self.predictions.index[twice]

    def day(self, start: pd.Timestamp, read: dict[str, list[int]], horizon: pd.Timedelta) -> pd.DataFrame:
        """A day's predictions (the first record of each) with the truth in force when its horizon passed."""
        places = self.by_day.get(start, pd.Index([], dtype=int))
        ids = self.predictions.loc[places, "id"]
        again = self.repeated[self.predictions.loc[self.repeated, "id"].isin(ids)]
        rows = _covered(self.predictions.loc[places.union(again)], read)
        live = rows["role"] == "live"
        first = pd.concat(
            [
                rows[live].drop_duplicates("id"),
                rows[~live].drop_duplicates(["id", "version"]),
            ]
        )
        first = first[first["day"] == start]
        known = _covered(self.outcomes[self.outcomes["id"].isin(first["id"])], read)
        known = known.merge(first[["id", "event_at"]].drop_duplicates(), on="id")
        known = known[known["known_at"] <= known["event_at"] + horizon]
        known = known.sort_values(["known_at", *ORIGIN]).drop_duplicates(["id", "event_at"], keep="last")
        found = first.merge(known[["id", "event_at", "value"]], on=["id", "event_at"], how="left")
        return found.sort_values(["event_at", "id", "role", "version"], ignore_index=True)

    def new_units(self, trial: str, since: pd.Timestamp, day: pd.Timestamp, read: dict[str, list[int]]) -> pd.Series:
        """Unit → the version that answered it first, of the units that the trial saw, live, first on this day."""
        rows = self.predictions
        mine = (rows["role"] == "live") & (rows["trial"] == trial) & (rows["event_at"] >= since)
        rows = _covered(rows[mine & (rows["event_at"] < day + DAY)], read)
        first = rows.sort_values(["event_at", *ORIGIN]).drop_duplicates("unit")
        return first[first["event_at"] >= day].set_index("unit")["version"]


def _covered(rows: pd.DataFrame, read: dict[str, list[int]]) -> pd.DataFrame:
    """The rows that had been read: up to a segment and a place in it, of each writer."""
    segment = rows["writer"].map({writer: last[0] for writer, last in read.items()})
    place = rows["writer"].map({writer: last[1] for writer, last in read.items()})
    within = (rows["sequence"] < segment) | ((rows["sequence"] == segment) & (rows["position"] <= place))
    return rows[within]


def block(plan: Trial, day: pd.DataFrame, fresh: pd.Series) -> dict[str, Any]:
    """A day's evidence: rows, mean losses of both, and the mean difference, or None where nothing counts.

    ``fresh`` is new_units', of a split: how many of each arm came, and how many of these had an outcome on this day.
    """
    live = day[(day["role"] == "live") & (day["trial"] == plan["id"])]
    champion, challenger = plan["champion"], plan["challenger"]
    late = unpaired = 0
    labelled: list[int] | None = None
    if plan["mode"] == "shadow":
        # The shadow is scored without haste: an event that the champion answered too late compares nothing.
        answers = live[live["version"] == champion]
        live = answers[answers["status"] != "timed_out"]
        late = len(answers) - len(live)
        shadow = day[(day["role"] == "shadow") & (day["version"] == challenger)]
        pairs = live.merge(shadow, on="id", suffixes=("", "_shadow"))
        unpaired = len(live) - len(pairs)
        events, pairs = len(pairs), pairs[pairs["value"].notna()]
        old = brier(plan, pairs["status"], pairs["output"], pairs["value"])
        new = brier(plan, pairs["status_shadow"], pairs["output_shadow"], pairs["value"])
        values = new - old
    else:
        both = live[live["version"].isin([champion, challenger])]
        events, both = len(both), both[both["value"].notna()]
        loss = brier(plan, both["status"], both["output"], both["value"])
        arm = (both["version"] == challenger).to_numpy()
        chance = both["probability"].to_numpy()
        # The mean loss of the day's events before; the reference stands for one before the first.
        seen = np.concatenate([[min(plan["reference"], 1.0)], loss])[:-1] if len(loss) else loss
        before = np.cumsum(seen) / np.arange(1, len(loss) + 1)
        values = (loss - before) * np.where(arm, 1 / chance, -1 / chance)
        old, new = loss[~arm], loss[arm]
        labelled = _arms(plan, fresh[fresh.index.isin(both["unit"])])
    return {
        "rows": len(values),
        "difference": _mean(values),
        "champion_loss": _mean(old),
        "challenger_loss": _mean(new),
        "unlabelled": events - len(values),
        "unpaired": unpaired,
        "champion_late": late,
        "units": _arms(plan, fresh),
        "labelled_units": labelled,
    }


def _arms(plan: Trial, versions: pd.Series) -> list[int]:
    """How many of these are the champion's, and the challenger's."""
    return [int((versions == plan[arm]).sum()) for arm in ("champion", "challenger")]


def brier(plan: Trial, status: pd.Series, output: pd.Series, value: pd.Series) -> np.ndarray:
    """(probability - truth) squared; a model that failed has the largest loss, 1."""
    truth = value.map({json.dumps(label): place for place, label in enumerate(plan["classes"])}).to_numpy(float)
    scored = (status == "scored").to_numpy()
    said = np.array([one[0] if good else np.nan for one, good in zip(output, scored, strict=True)], dtype=float)
    return np.where(scored, (said - truth) ** 2, 1.0)


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def evidence(ahead: np.ndarray) -> float:
    """Against "the mean of ``ahead`` is not above 0": the anytime-valid t of Wang and Ramdas, mixed over EFFECTS."""
    count = len(ahead)
    spread = float(np.std(ahead, ddof=1)) if count > 1 else 0.0
    if spread <= 1e-9 * float(np.abs(ahead).max(initial=0.0)):
        return 1.0
    t = float(np.mean(ahead)) / (spread / math.sqrt(count))
    return 0.0 if t < 0 else float(np.mean([density_ratio(t, count - 1, math.sqrt(count) * one) for one in EFFECTS]))


def density_ratio(t: float, freedom: int, delta: float) -> float:
    """Non-central t over central t, at t: as scipy has it, or, where its densities vanish, by quadrature."""
    with np.errstate(all="ignore"):
        both = stats.nct.pdf(t, freedom, delta), stats.t.pdf(t, freedom)
    if min(both) > _VANISHING and all(map(math.isfinite, both)):
        return float(both[0] / both[1])
    return quadrature(t, freedom, delta)


def quadrature(t: float, freedom: int, delta: float) -> float:
    """The same as the mean of exp(delta z X) exp(-delta^2 / 2), X chi with freedom + 1, z = t / sqrt(freedom + t^2)."""
    z = t / math.sqrt(freedom + t * t)
    x = np.linspace(1e-6, math.sqrt(freedom + 1) + delta + 12, 40_001)
    logs = stats.chi.logpdf(x, freedom + 1) + delta * z * x
    largest = logs.max()
    return float(np.exp(largest - delta**2 / 2) * np.trapezoid(np.exp(logs - largest), x))


def verdict(plan: Trial, blocks: list[dict[str, Any]]) -> tuple[str, int | None]:
    """The first verdict that these days reach, and after how many; KEEP_GOING and None if none does."""
    differences: list[float] = []
    came, labelled = np.zeros(2), np.zeros(2)
    for number, one in enumerate(blocks[: plan["max_days"]], 1):
        came += one["units"]
        labelled += one["labelled_units"] or (0, 0)
        astray = max(mismatch(came, plan["share"]), mismatch(labelled, plan["share"]))
        if plan["mode"] == "split" and astray >= -math.log(RATIO_ALPHA):
            return "INVALID", number
        if one["difference"] is None:
            continue
        differences.append(one["difference"])
        if len(differences) < plan["min_days"]:
            continue
        values = np.array(differences)
        if evidence(plan["margin"] - values) >= 1 / plan["alpha"]:
            return "PROMOTE", number
        if evidence(values - plan["rollback_above"]) >= 1 / plan["alpha"]:
            return "ROLL_BACK", number
    return ("INCONCLUSIVE", plan["max_days"]) if len(blocks) >= plan["max_days"] else ("KEEP_GOING", None)


def mismatch(arms: np.ndarray, share: float) -> float:
    """Logarithm of the evidence that units do not get their arms as planned (Lindon and Malek 2022)."""
    planned = np.array([1 - share, share])
    parts = gammaln(KAPPA * planned + arms) - gammaln(KAPPA * planned) - arms * np.log(planned)
    return float(parts.sum() - gammaln(KAPPA + arms.sum()) + gammaln(KAPPA))


def audit(ledger: Ledger, trial: Trial, kept: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """A line about a trial, and what differs from what was kept of it."""
    plan = trial["plan"]
    if (plan["loss"], plan["unit"], plan["task"], plan["cap"]) != ("brier", "day", "binary", None):
        raise UnknownError(
            f"trial {plan['id']} is of {plan['loss']} by {plan['unit']}: only brier by day is known here"
        )
    started = pd.Timestamp(plan["started_at"]).tz_convert("UTC")
    first = started.ceil("D")
    horizon = pd.Timedelta(hours=plan["horizon_hours"])
    wrong, blocks = [], []
    for number, one in enumerate(kept):
        old = UNCOUNTED | one
        start = pd.Timestamp(old["start"]).tz_convert("UTC")
        if start != first + number * DAY:
            wrong.append(f"block {number + 1} begins {start}, and not {first + number * DAY}")
        read = old["position"]["writers"]
        fresh = ledger.new_units(plan["id"], first, start, read) if plan["mode"] == "split" else pd.Series(dtype=int)
        new = block(plan, ledger.day(start, read, horizon), fresh)
        if old["labelled_units"] is None:
            new["labelled_units"] = None
        blocks.append(new)
        wrong += [
            f"{start:%d %b}: {name} was kept as {old[name]}, and is {new[name]}"
            for name in new
            if not _alike(old[name], new[name])
        ]
    kind, after = verdict(plan, blocks)
    told = trial.get("verdict")
    was, day = (told["kind"], told["decided_by"]) if told else ("KEEP_GOING", None)
    decided = first + (after - 1) * DAY if after else None
    # A trial that a newer challenger or a person ended has no day that decided: there, no day may have.
    set_aside = kind == "KEEP_GOING" and was == "INCONCLUSIVE"
    if kind != was and not set_aside:
        wrong.append(f"the verdict was {was}, and is {kind}")
    elif decided is not None and (day is None or pd.Timestamp(day) != decided):
        wrong.append(f"it was decided by {day}, and is by {decided}")
    if told and trial["decided_at"] and decided is not None:
        closes = decided + DAY + horizon
        if pd.Timestamp(trial["decided_at"]) < closes:
            wrong.append(f"it was decided at {trial['decided_at']}, before the day had matured at {closes}")
    differences = [one["difference"] for one in blocks[:after] if one["difference"] is not None]
    mean = f"{np.mean(differences):+.5f}" if differences else "-"
    who = f"{plan['challenger']:>3} against {plan['champion']:<3} {plan['mode']:<6}"
    figures = f"{len(differences):>3} days  mean {mean}  margin {plan['margin']:.5f}"
    by = f"{decided:%Y-%m-%d}" if decided is not None else "-"
    line = f"{started:%Y-%m-%d}  {who}  {was:<12} {figures}  {by:<10}"
    return f"{line}  {'differs' if wrong else 'the same'}", wrong


def _alike(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=SAME, abs_tol=SAME)
    return bool(old == new)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Recompute every verdict from the ledger, by other code.")
    parser.add_argument("project", type=Path, help="the folder of a project that was lived, with its .passerelle")
    parser.add_argument("--environment", default="production")
    chosen = parser.parse_args(arguments)
    state = chosen.project / ".passerelle"
    if not (state / "state.db").exists():
        parser.error(f"{state / 'state.db'} is not there: name a project that was lived")
    trials = [one for one in read_trials(state / "state.db") if one[0]["plan"]["environment"] == chosen.environment]
    print("began       challenger     mode    verdict (as kept), recomputed figures, and the day that decided")
    differ = 0
    try:
        ledger = Ledger(*read_ledger(state / "ledger" / chosen.environment)) if trials else None
        for trial, kept in trials:
            assert ledger is not None
            line, wrong = audit(ledger, trial, kept)
            print("\n".join([line, *(f"    {one}" for one in wrong)]))
            differ += bool(wrong)
    except UnknownError as error:
        print(f"Cannot tell: {error}.", file=sys.stderr)
        return 2
    print(f"{len(trials)} trials, {differ} of them differ.")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
