"""Gauges: what the loop has measured, for Prometheus to scrape from the dashboard; the endpoint's counts are its own.

The target's labels say which project and environment it is; see prometheus, whose rules read these.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from passerelle.decoding import prepared
from passerelle.monitoring import service
from passerelle.monitoring.alerts import all_open
from passerelle.monitoring.looking import LOOKED
from passerelle.monitoring.rules import DEFAULTS, rule_of
from passerelle.monitoring.windows import newest
from passerelle.project.settings import Project, Watch

CONTENT_TYPE = CONTENT_TYPE_LATEST
#: The series of a day, and where each keeps the evidence that its threshold is compared with.
_EVIDENCE: dict[Watch, str] = {"performance": "evidence", "score_drift": "mean", "input_drift": "mean"}


def exposition(engine: sa.Engine, project: Project, environment: str) -> bytes:
    """The gauges of an environment as the state is now, in Prometheus's text format."""
    registry = CollectorRegistry()
    opened = _gauge(registry, "alert_open", "1 while an alert of the watch is open, with its level", "watch", "level")
    evidence = _gauge(registry, "evidence", "Evidence of the newest day, of the rules that weigh it", "watch")
    limit = _gauge(registry, "evidence_threshold", "Days between two false alarms, at least", "watch")
    measured = _gauge(registry, "measured_day_timestamp_seconds", "The start of the newest measured day", "watch")
    loss = _gauge(registry, "day_loss", "Mean loss of the newest mature day")
    expected = _gauge(registry, "day_expected_loss", "What that day's own probabilities expected")
    looked = _gauge(registry, "loop_look_timestamp_seconds", "When the loop last looked at the endpoint's counts")
    with engine.connect() as connection:
        still = {alert.watch: alert.level for alert in all_open(connection, environment)}
        for watch in DEFAULTS:
            rule = rule_of(project, watch)
            if rule.level != "off" or watch in still:
                opened.labels(watch, still.get(watch, rule.level)).set(watch in still)
        for watch, kept in _EVIDENCE.items():
            limit.labels(watch).set(rule_of(project, watch).threshold or 1.0)
            window = newest(connection, environment, watch)
            day = {} if window is None else window.value
            _set(measured.labels(watch), None if window is None else window.start.timestamp())
            _set(evidence.labels(watch), day.get(kept))
            if watch == "performance":
                _set(loss, day.get("loss"))
                _set(expected, day.get("expected"))
        window = newest(connection, environment, LOOKED)
    at = None if window is None else msgspec.convert(window.value, prepared(service.Looked)).at
    _set(looked, None if at is None else at.timestamp())
    return generate_latest(registry)


def _gauge(registry: CollectorRegistry, name: str, what: str, *labels: str) -> Gauge:
    return Gauge(f"passerelle_{name}", what, labels, registry=registry)


def _set(gauge: Gauge, value: Any) -> None:
    """NaN for what is not known: 0, which a gauge begins with, would be a figure."""
    gauge.set(float("nan") if value is None else float(value))
