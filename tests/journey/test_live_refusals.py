"""The suite for people with an account does not begin by accident, nor for more than it may cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from living_live import run

SETTINGS = """
[live]
price_per_hour = 0.3
minutes = 8
[targets.aws]
kind = "sagemaker"
[targets.aws.scaling]
maximum = 3
"""


def test_without_live_nothing_is_collected(tmp_path: Path) -> None:
    done = run(tmp_path / "live")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout
    assert "add --live and --live-settings FILE" in done.stdout


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("nan", "PASSERELLE_LIVE_BUDGET is 'nan': say how much this may cost"),
        ("0.27", "this may cost 0.28 (8 minutes at 0.3 an hour), and PASSERELLE_LIVE_BUDGET is 0.27"),
    ],
)
def test_it_does_not_begin_without_a_budget_that_lasts(budget: str, said: str, tmp_path: Path) -> None:
    settings = tmp_path / "live.toml"
    settings.write_text(SETTINGS)
    done = run(tmp_path / "live", "--live", f"--live-settings={settings}", budget=budget)
    assert done.returncode not in (0, pytest.ExitCode.TESTS_FAILED)
    assert said in done.stdout + done.stderr
