"""Budget: how many false alarms chance may have raised so far, beside how many alerts there were.

Only rules that weigh evidence can be wrong by chance, and have a threshold that says how often: days between two false
alarms, at least. The others tell what is so (a day with half its events, a delivery that was put aside).
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from passerelle.monitoring.alerts import find_alerts
from passerelle.monitoring.control import expected_false_alarms
from passerelle.monitoring.rules import DEFAULTS, rule_of
from passerelle.monitoring.windows import read_windows
from passerelle.project.settings import Project, Watch

#: The rules whose threshold is in days between two false alarms.
WEIGHED: tuple[Watch, ...] = ("performance", "score_drift", "input_drift")


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule has raised."""

    watch: Watch
    #: Alerts, open and closed.
    raised: int
    #: Days that were judged, the days between two false alarms (at least), and so the most false ones to be expected;
    #: None where nothing is left to chance.
    days: int | None = None
    false_alarm_every: float | None = None
    expected: float | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What all rules have raised in an environment."""

    #: Every rule that is not off; those of WEIGHED first.
    families: tuple[Family, ...]
    #: Of the rules that weigh evidence, together: at most so many false alarms are expected, and so many alerts came.
    expected: float
    raised: int


def budget_of(engine: sa.Engine, project: Project, environment: str) -> Budget:
    """The budget so far, by the thresholds as they are set now.

    An alert that outcomes stopped coming is told under performance, and is not counted: no chance is in it.
    """
    alerts = [one for one in find_alerts(engine, environment) if not (one.watch in WEIGHED and one.alone)]
    families = []
    for watch in (*WEIGHED, *(watch for watch in DEFAULTS if watch not in WEIGHED)):
        rule = rule_of(project, watch)
        raised = sum(one.watch == watch for one in alerts)
        if rule.level == "off":
            continue
        if watch not in WEIGHED or rule.threshold is None:
            families.append(Family(watch=watch, raised=raised))
            continue
        days = sum(_is_judged(one.value) for one in read_windows(engine, environment, watch))
        expected = expected_false_alarms([(days, rule.threshold)])
        families.append(
            Family(watch=watch, raised=raised, days=days, false_alarm_every=rule.threshold, expected=expected)
        )
    weighed = [one for one in families if one.days is not None and one.false_alarm_every is not None]
    return Budget(
        families=tuple(families),
        expected=expected_false_alarms([(one.days or 0, one.false_alarm_every or 1.0) for one in weighed]),
        raised=sum(one.raised for one in weighed),
    )


def lines_of(budget: Budget) -> list[str]:
    """The budget, for a person.

    >>> family = Family(watch="performance", raised=2, days=292, false_alarm_every=365.0, expected=0.8)
    >>> lines_of(Budget(families=(family,), expected=0.8, raised=2))[1]
    '  performance   expected false <= 0.8 (292 days, one in 365 at most); raised 2'
    """
    lines = [f"By chance: expected false so far <= {_figure(budget.expected)}; raised {budget.raised}."]
    for one in budget.families:
        if one.expected is not None:
            most = f"{one.days:,} day{'' if one.days == 1 else 's'}, one in {one.false_alarm_every:,.0f} at most"
            lines.append(f"  {one.watch:13} expected false <= {_figure(one.expected)} ({most}); raised {one.raised}")
    others = [f"{one.watch} {one.raised}" for one in budget.families if one.expected is None and one.raised]
    return [*lines, f"Without chance in them: {', '.join(others)}."] if others else lines


def _figure(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"  # noqa: PLR2004  (two figures)


def _is_judged(window: dict[str, Any]) -> bool:
    """Was the day weighed? Not while the days before it were too few, or its own rows."""
    return window.get("p") is not None or bool(window.get("evidence"))
