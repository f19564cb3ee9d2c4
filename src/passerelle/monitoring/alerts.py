"""Alerts: a rule that fired opens one, which stays until the rule is quiet, and closes; each names its next action."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from passerelle.project.settings import Watch


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert, open or closed."""

    #: <environment>-<watch>-<moment it opened>: found before it is made.
    id: str
    environment: str
    watch: Watch
    #: page: somebody is called; ticket: it stands on the timeline and the dashboard.
    level: Literal["page", "ticket"]
    #: The control plane's clock.
    opened_at: datetime
    #: None while it is open.
    closed_at: datetime | None = None
    #: The first and the last day (its start, event time) that it is about; None for rules of machine time.
    first_day: datetime | None = None
    last_day: datetime | None = None
    #: What is wrong, with the figures.
    sentence: str
    #: What to do now.
    action: str
    #: Values of JSON, for programs and charts.
    details: dict[str, Any] = {}
