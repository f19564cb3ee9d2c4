"""The endpoint of the serving room's tests, whose model is arithmetic, for these."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

_NAME = "serving_parts"


@pytest.fixture
def land(tmp_path: Path) -> Any:
    """A project on the disk, and its endpoints: real processes."""
    if _NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(_NAME, Path(__file__).parents[1] / "serving" / "conftest.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[_NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_NAME])
    return sys.modules[_NAME].Land(tmp_path)
