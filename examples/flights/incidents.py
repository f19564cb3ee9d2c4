"""What goes wrong on the way through the year, made from what goes right: tour.toml says when each of them happens.

Beside the deliveries, from deliveries that are there:

    weather-2013-03-celsius.csv   March's weather with its temperatures in Celsius
    flights-2013-08-renamed.csv   August's flights with sched_dep_time under another name

and two notebooks, which are flights.ipynb with a few words changed, so that they follow it as it changes:

    leaking.ipynb    gives the model dep_delay, which a delivery holds, and nobody knows two hours before departure
    degraded.ipynb   hands over a model whose probabilities are blurred until its Brier score is 4.5 % worse (1.5 times
                     the margin of passerelle.toml) on the validation days

Each fails if what it changes is not there any more.

    python deliveries.py deliveries
    python incidents.py deliveries        writes the folder incidents, beside this file
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE / "notebooks" / "flights.ipynb"

#: Cell → what stands there → what shall stand there instead.
Changes = dict[str, dict[str, str]]

LEAKING: Changes = {
    "make-events": {'"origin", "dest", "distance"]': '"origin", "dest", "distance", "dep_delay"]'},
    "make-features": {
        '        "distance": rows["distance"],\n': '        "distance": rows["distance"],\n'
        '        "dep_delay": rows["dep_delay"],\n',
    },
}

DEGRADED: Changes = {
    "submit": {
        "model = fit_model(X, truth, seed)": '''\
def blurred(p, X, strength):
    """Probabilities whose log odds are shifted at random: by the same for the same row, whatever rows come with it."""
    row = X["departure_minute"] * 7919 + X["distance"] * 104729 + X["weekday"] * 15485863
    dice = np.sqrt(3) * (2 * (row % 65537).to_numpy() / 65536 - 1)
    return 1 / (1 + np.exp(-(np.log(p / (1 - p)) + strength * dice)))


class Blurred:
    """A model with blurred probabilities."""

    def __init__(self, model, strength):
        self.model = model
        self.strength = strength
        self.classes_ = model.classes_

    def predict_proba(self, X):
        p = blurred(self.model.predict_proba(X)[:, 1], X, self.strength)
        return np.column_stack([1 - p, p])


# The strength at which the Brier score of the validation days is worse by 1.5 times the margin of 3 %.
steps = np.arange(0.0, 3.0, 0.01)
worse = np.array([brier_score_loss(truth[asked], blurred(probability, X[asked], step)) for step in steps])
strength = float(steps[np.argmax(worse >= 1.045 * worse[0])])
assert strength > 0

model = Blurred(fit_model(X, truth, seed), strength)''',
    },
}


def changed(notebook: str, changes: Changes) -> str:
    """The notebook (its file's text) with these words changed. Raises ValueError unless each stands there once."""
    content = json.loads(notebook)
    cells = {cell.get("id"): cell for cell in content["cells"]}
    for name, words in changes.items():
        if name not in cells:
            raise ValueError(f"the notebook has no cell {name!r} any more")
        source = "".join(cells[name]["source"])
        for old, new in words.items():
            if source.count(old) != 1:
                raise ValueError(f"the notebook's cell {name!r} holds {source.count(old)} times, and not once: {old}")
            source = source.replace(old, new)
        cells[name]["source"] = source.splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def in_celsius(weather: pd.DataFrame) -> pd.DataFrame:
    """The observations, as an office abroad would write them: temperature and dew point in Celsius."""
    degrees = weather[["temp", "dewp"]].apply(pd.to_numeric, errors="coerce")
    text = ((degrees - 32) / 1.8).round(2).astype(str)
    return weather.assign(**text.where(degrees.notna(), "NA"))


def renamed(flights: pd.DataFrame) -> pd.DataFrame:
    """The flights, after the airline's reservation system was changed: it calls the scheduled time CRS time."""
    if "sched_dep_time" not in flights:
        raise ValueError("the flights have no sched_dep_time any more")
    return flights.rename(columns={"sched_dep_time": "crs_dep_time"})


DELIVERIES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "weather-2013-03-celsius.csv": in_celsius,
    "flights-2013-08-renamed.csv": renamed,
}


def write_incidents(deliveries: Path, out: Path, notebook: Path = NOTEBOOK) -> list[Path]:
    """Write both notebooks, and the bad deliveries of those months whose good ones are there; the files."""
    out.mkdir(parents=True, exist_ok=True)
    text = notebook.read_text(encoding="utf-8")
    written = [
        _write(out / "leaking.ipynb", changed(text, LEAKING)),
        _write(out / "degraded.ipynb", changed(text, DEGRADED)),
    ]
    for name, spoil in DELIVERIES.items():
        good = deliveries / f"{name.rpartition('-')[0]}.csv"
        if good.exists():
            rows = pd.read_csv(good, dtype="str", keep_default_na=False, na_filter=False)
            written.append(_write(out / name, spoil(rows).to_csv(index=False)))
    return written


def _write(path: Path, text: str) -> Path:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Write what goes wrong on the way through the year.")
    parser.add_argument("deliveries", type=Path, help="the folder that deliveries.py wrote")
    parser.add_argument("--out", type=Path, default=HERE / "incidents", help="incidents, beside this script")
    chosen = parser.parse_args()
    for path in write_incidents(chosen.deliveries, chosen.out):
        print(path)


if __name__ == "__main__":
    main()
