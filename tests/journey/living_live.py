"""The suite for people with an account, as they run it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIVE = ROOT / "tests" / "live"
BUDGET = "PASSERELLE_LIVE_BUDGET"


def command(folder: Path, *options: str) -> list[str]:
    own = ["-p", "no:cacheprovider", "-n", "0", f"--basetemp={folder}"]
    return [sys.executable, "-m", "pytest", str(LIVE), *own, *options]


def run(folder: Path, *options: str, budget: str = "5") -> subprocess.CompletedProcess[str]:
    variables = os.environ | {BUDGET: budget}
    return subprocess.run(
        command(folder, *options), cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
