"""How many false alarms are to be expected, beside how many came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from watched import make_project

from passerelle.monitoring.alerts import Finding, settle
from passerelle.monitoring.budget import budget_of, lines_of
from passerelle.monitoring.rules import rule_of
from passerelle.monitoring.windows import Window, keep_window
from passerelle.project.settings import Project, Watch
from passerelle.state.database import open_state, writing

DAY = timedelta(days=1)
NOW = datetime(2013, 2, 1, tzinfo=UTC)
RULES = '[[rules]]\nwatch = "input_drift"\nthreshold = 100\n[[rules]]\nwatch = "volume"\nlevel = "off"\n'


def _measured(project: Project, watch: Watch, *values: dict[str, Any]) -> None:
    with writing(open_state(project.state)) as connection:
        for number, value in enumerate(values):
            keep_window(connection, "production", Window(start=NOW + number * DAY, watch=watch, value=value))


def _open(project: Project, watch: Watch, *, day: int, alone: bool = False) -> None:
    found = Finding(state="firing", sentence="!", day=NOW + day * DAY, alone=alone)
    with writing(open_state(project.state)) as connection:
        settle(connection, "production", rule_of(project, watch), found, now=NOW + day * DAY)
        over = Finding(state="quiet", sentence="over.")
        settle(connection, "production", rule_of(project, watch), over, now=NOW + (day + 1) * DAY)


def test_days_that_were_weighed_count_and_thresholds_add(tmp_path: Path) -> None:
    project = make_project(tmp_path, RULES)
    _measured(project, "performance", {"p": None}, *({"p": 0.5} for _ in range(73)))
    _measured(
        project, "input_drift", *({"evidence": {}} for _ in range(14)), *({"evidence": {"a": 1}} for _ in range(50))
    )
    for day in (3, 9):
        _open(project, "performance", day=day)
    _open(project, "performance", day=20, alone=True)  # outcomes stopped coming: that is so
    _open(project, "quarantine", day=20)
    budget = budget_of(open_state(project.state), project, "production")
    found = {one.watch: (one.days, one.expected, one.raised) for one in budget.families}
    assert found["performance"] == (73, 0.2, 2)
    assert found["input_drift"] == (50, 0.5, 0)
    assert found["score_drift"] == (0, 0.0, 0)
    assert found["quarantine"] == (None, None, 1)
    assert "volume" not in found
    assert (budget.expected, budget.raised) == (0.7, 2)
    assert lines_of(budget) == [
        "By chance: expected false so far <= 0.7; raised 2.",
        "  performance   expected false <= 0.2 (73 days, one in 365 at most); raised 2",
        "  score_drift   expected false <= 0 (0 days, one in 1,000 at most); raised 0",
        "  input_drift   expected false <= 0.5 (50 days, one in 100 at most); raised 0",
        "Without chance in them: quarantine 1.",
    ]
