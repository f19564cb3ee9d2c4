"""The flights example: its scripts as modules, the notebook's own functions, and the year as it is delivered."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def deliveries() -> ModuleType:
    return _module(FLIGHTS / "deliveries.py")


@pytest.fixture(scope="session")
def rolling_origin() -> ModuleType:
    return _module(FLIGHTS / "analysis" / "rolling_origin.py")


@pytest.fixture(scope="session")
def notebook(rolling_origin: ModuleType) -> dict[str, Any]:
    """What the notebook's cells tagged "features" define."""
    return rolling_origin.notebook_functions()


@pytest.fixture(scope="session")
def year_folder(deliveries: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deliveries")
    deliveries.write_deliveries(folder, range(1, 13))
    return folder


@pytest.fixture(scope="session")
def year(year_folder: Path) -> dict[str, pd.DataFrame]:
    """Each table over the whole year, all its columns; do not change it."""

    def read(table: str) -> pd.DataFrame:
        files = (year_folder / f"{table}-2013-{month:02}.csv" for month in range(1, 13))
        return pd.concat([pd.read_csv(path) for path in files], ignore_index=True)

    tables = {table: read(table) for table in ("flights", "weather", "outcomes")}
    return {**tables, "airports": pd.read_csv(year_folder / "airports.csv")}


@pytest.fixture(scope="session")
def events(notebook: dict[str, Any], year: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The year's events, by the notebook's own make_events."""
    made: pd.DataFrame = notebook["make_events"](year)
    return made


@pytest.fixture(scope="session")
def incidents() -> ModuleType:
    return _module(FLIGHTS / "incidents.py")


@pytest.fixture(scope="session")
def value(rolling_origin: ModuleType, deliveries: ModuleType) -> ModuleType:
    assert rolling_origin.__name__ in sys.modules  # value imports both by these names
    assert deliveries.__name__ in sys.modules
    return _module(FLIGHTS / "analysis" / "value.py")


@pytest.fixture(scope="session")
def recompute_verdicts() -> ModuleType:
    return _module(FLIGHTS / "analysis" / "recompute_verdicts.py")
