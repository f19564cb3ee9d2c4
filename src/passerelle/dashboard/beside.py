"""Beside: what pages show that is read from the ledger, computed beside them (see later) and kept while it holds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from passerelle.bundle.profile import Categorical
from passerelle.dashboard import calibrating
from passerelle.dashboard.asking import Question, question_of
from passerelle.dashboard.later import Found, Later
from passerelle.dashboard.reading import Reader, Seen
from passerelle.dashboard.words import figure
from passerelle.errors import SettingsError
from passerelle.ledger.storage import ledger_folder
from passerelle.loop.forecasting import Known, Outlook, forecast_of, read_known
from passerelle.loop.train import registry_of
from passerelle.project.settings import Project
from passerelle.trial.breaker import last_answers
from passerelle.trial.exploring import Segment, segments
from passerelle.trial.funnel import Funnel, funnel
from passerelle.trial.provisional import Provisional, guardrails_now, provisional
from passerelle.trial.signing import Checked
from passerelle.trial.verdict import Guarding, Record

_EVERY_MINUTES = 10
#: Who asks the planner waits so long for its answer.
ANSWER_S = 0.8

_Wanted = tuple[Hashable, Callable[[], Any]]


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What of a trial is for people to look at, and never decides."""

    funnel: Funnel | None = None
    #: Days that are not mature, by the outcomes so far.
    provisional: tuple[Provisional, ...] = ()
    #: The field that was asked for, its segments, and the fields that may be asked for.
    field: str | None = None
    segments: tuple[Segment, ...] = ()
    fields: tuple[str, ...] = ()
    #: What the planner is asked, and what a trial like that would need, if one began now. None while one runs and
    #: nothing is asked.
    question: Question = Question()
    #: What the project says, for the form; None while no version answers, so that there is nothing to plan.
    settings: dict[str, str] | None = None
    outlook: Outlook | None = None
    #: Why it could not be planned.
    unplanned: str | None = None
    #: What must not get worse, with the events of days that wait for their outcomes; () where there are none.
    guardrails: tuple[Guarding, ...] = ()
    #: What is to be said of its signature; None without a trial.
    signature: Checked | None = None
    #: Of a trial that broke: on which of its last answers the challenger failed, newest first.
    answers: tuple[bool, ...] = ()
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
        self._known: tuple[tuple[int, ...], Known] | None = None

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
        self, seen: Seen, record: Record | None, asked: Mapping[str, str], *, now: datetime, wait_s: float
    ) -> Beside:
        """What an address asks beside a trial; without a trial, of the planner alone."""
        question = question_of(asked)
        wanted = {} if record is None else self._of_trial(seen, record, asked.get("segments"), now=now)
        going_on = any(one.status == "running" for one in seen.trials)
        if seen.current is not None and not question.wrong and (question.asked or not going_on):
            known = (len(seen.windows.get("performance", ())), len(seen.trials), seen.current.revision)
            key = ("outlook", *known, question.margin, question.mode, question.share)
            wanted["outlook"] = (key, lambda: self._forecast(known, question, now=now))
        found = self.later.all(wanted, wait_s=max(wait_s, ANSWER_S) if question.asked else wait_s)
        there = {name: one.value for name, one in found.items() if one.standing == "there"}
        fields = () if record is None else self._fields(record.plan.champion)
        return Beside(
            **there,
            field=asked.get("segments") if asked.get("segments") in fields else None,
            fields=fields,
            question=question,
            settings=None if seen.current is None else _settings(seen.project),
            signature=None if record is None else self._reader.checked(record),
            computing=any(one.standing == "computing" for one in found.values()),
            reasons=tuple(dict.fromkeys(one.reason for name, one in found.items() if one.reason and name != "outlook")),
            unplanned=found["outlook"].reason or None if "outlook" in found else None,
        )

    def _of_trial(self, seen: Seen, record: Record, field: str | None, *, now: datetime) -> dict[str, _Wanted]:
        plan, days = record.plan, len(seen.blocks[record.plan.id])
        until = now.replace(minute=now.minute // _EVERY_MINUTES * _EVERY_MINUTES, second=0, microsecond=0)
        about = (plan.id, days, record.status, until if record.status == "running" else None)
        wanted: dict[str, _Wanted] = {
            "funnel": (("funnel", *about), lambda: funnel(self._project, record, now)),
            "provisional": (("provisional", *about), lambda: tuple(provisional(self._project, record, now))),
        }
        if field in self._fields(plan.champion):
            key = ("segments", plan.id, days, field)
            wanted["segments"] = (key, lambda: tuple(segments(self._project, record, field or "", now)))
        if plan.guardrails and record.status == "running":
            wanted["guardrails"] = (
                ("guardrails", *about),
                lambda: tuple(guardrails_now(self._project, record, now)),
            )
        broken = record.verdict.breaker if record.verdict else None
        if broken is not None:
            folder = ledger_folder(self._project.state, plan.environment)
            wanted["answers"] = (
                ("answers", plan.id),
                lambda: last_answers(folder, plan, since=broken.since, upto=broken.position).failed,
            )
        return wanted

    def _forecast(self, about: tuple[int, ...], question: Question, *, now: datetime) -> Outlook:
        """The planner's answer; what it rests on is read once. Raises PasserelleError for what cannot be planned."""
        if self._known is None or self._known[0] != about:
            registry = registry_of(self._project)
            self._known = about, read_known(self._project, registry, environment=self._environment, now=now)
        try:
            return forecast_of(
                self._project,
                self._known[1],
                now=now,
                margin=question.margin,
                mode=question.mode,
                share=question.share,
            )
        except ValueError as error:
            raise SettingsError(f"this cannot be planned: {error}.") from error

    def _fields(self, version: int) -> tuple[str, ...]:
        """The fields that have values to tell segments by."""
        reference = self._reader.reference(version)
        return (
            ()
            if reference is None
            else tuple(name for name, field in reference.inputs.items() if isinstance(field, Categorical))
        )


def _settings(project: Project) -> dict[str, str]:
    trial = project.trial
    share = (trial.steps or (trial.share,))[-1]
    return {"margin": figure(trial.margin), "mode": trial.mode, "share": figure(share)}
