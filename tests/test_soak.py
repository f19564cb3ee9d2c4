"""What is run at full size only when asked is asked for by `make soak`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_make_soak_runs_each_test_that_has_a_full_size() -> None:
    said = subprocess.run(
        ["make", "-n", "-o", ".venv/test.stamp", "soak"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (line,) = [one for one in said.stdout.replace("\\\n", " ").splitlines() if "PASSERELLE_SOAK=1" in one]
    asked = [ROOT / word for word in line.split() if word.startswith("tests/")]
    assert [path for path in asked if not path.exists()] == []
    sized = [path for path in (ROOT / "tests").rglob("test_*.py") if re.search('"PASSERELLE_SOAK"', path.read_text())]
    sized.remove(Path(__file__))
    assert len(sized) >= 8
    assert [path for path in sized if not any(path.is_relative_to(one) for one in asked)] == []
