"""Beside: what pages show that is read from the ledger, computed beside them (see later) and kept while it holds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from passerelle.bundle.profile import Categorical
from passerelle.dashboard import calibrating
from passerelle.dashboard.later import Found, Later
from passerelle.dashboard.reading import Reader, Seen
from passerelle.loop.forecasting import Outlook, forecast_trial
from passerelle.loop.train import registry_of
from passerelle.project.settings import Project
from passerelle.trial.exploring import Segment, segments
from passerelle.trial.funnel import Funnel, funnel
from passerelle.trial.provisional import Provisional, provisional
from passerelle.trial.verdict import Block, Record

_EVERY_MINUTES = 10


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What of a trial is for people to look at, and never decides."""

    funnel: Funnel | None = None
    #: Days that are not mature, by the outcomes so far.
    provisional: tuple[Provisional, ...] = ()
    #: The field that was asked for, its segments, and the fields that may be asked for.
    field: str | None = None
    segments: tuple[Segment, ...] = ()
    fields: tuple[str, ...] = ()
    #: What a trial of the settings would need, if one began now; None while one runs.
    outlook: Outlook | None = None
    #: Is something of it being computed still?
    computing: bool = False
    #: Why something could not be.
    reasons: tuple[str, ...] = ()


class Computed:
    """Asks for what is beside a page; waits as long as the page may."""

    def __init__(self, project: Project, environment: str, reader: Reader) -> None:
        self._project = project
        self._environment = environment
        self._reader = reader
        self.later = Later()

    def measured(self, seen: Seen, now: datetime, *, wait_s: float) -> tuple[Found | None, Found | None]:
        """Calibration of the newest mature days, and what is expected of those that are not due, by the hour."""
        days = calibrating.days_for(seen.windows.get("performance", ()))
        if days is None or seen.current is None or self._project.task.kind == "regression":
            return None, None
        classes = self._reader.classes(seen.current.champion.version)
        if not classes:
            return None, None
        start = seen.windows["performance"][-1].start + timedelta(days=1)
        hour = now.replace(minute=0, second=0, microsecond=0)
        found = self.later.all(
            {
                "calibrated": (
                    ("calibration", *days),
                    lambda: calibrating.calibrate(self._project, self._environment, classes, *days),
                ),
                "coming": (
                    ("coming", start, hour),
                    lambda: calibrating.coming(self._project, self._environment, start, now),
                ),
            },
            wait_s=wait_s,
        )
        return found["calibrated"], found["coming"]

    def trial(
        self, seen: Seen, record: Record, blocks: Sequence[Block], *, field: str | None, now: datetime, wait_s: float
    ) -> Beside:
        """The funnel, the days that are not mature, and the segments of a field if one is asked for."""
        plan = record.plan
        until = now.replace(minute=now.minute // _EVERY_MINUTES * _EVERY_MINUTES, second=0, microsecond=0)
        about = (plan.id, len(blocks), record.status, until if record.status == "running" else None)
        asked: dict[str, tuple[Hashable, Callable[[], Any]]] = {
            "funnel": (("funnel", *about), lambda: funnel(self._project, record, now)),
            "provisional": (("provisional", *about), lambda: tuple(provisional(self._project, record, now))),
        }
        fields = self._fields(plan.champion)
        if field in fields:
            key = ("segments", plan.id, len(blocks), field)
            asked["segments"] = (key, lambda: tuple(segments(self._project, record, field or "", now)))
        if seen.current is not None and not any(one.status == "running" for one in seen.trials):
            mature = len(seen.windows.get("performance", ()))
            asked["outlook"] = (
                ("outlook", mature, len(seen.trials), seen.current.revision),
                lambda: forecast_trial(
                    self._project, registry_of(self._project), environment=self._environment, now=now
                ),
            )
        found = self.later.all(asked, wait_s=wait_s)
        there = {name: one.value for name, one in found.items() if one.standing == "there"}
        return Beside(
            **there,
            field=field if field in fields else None,
            fields=fields,
            computing=any(one.standing == "computing" for one in found.values()),
            reasons=tuple(dict.fromkeys(one.reason for one in found.values() if one.reason)),
        )

    def _fields(self, version: int) -> tuple[str, ...]:
        """The fields that have values to tell segments by."""
        reference = self._reader.reference(version)
        return (
            ()
            if reference is None
            else tuple(name for name, field in reference.inputs.items() if isinstance(field, Categorical))
        )
