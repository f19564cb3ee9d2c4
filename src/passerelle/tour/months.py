"""Months: each lived period with who answered, what was tried, and what came of it; read from state and ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.verify import verify
from passerelle.ledger.views import ask
from passerelle.loop.rollout import PRODUCTION, revisions
from passerelle.loop.train import registry_of
from passerelle.metrics import evaluate, positions
from passerelle.monitoring.alerts import find_alerts
from passerelle.project.settings import Project
from passerelle.state import runs
from passerelle.state.database import open_state
from passerelle.state.timeline import events
from passerelle.tour.figures import Month
from passerelle.tour.script import Script
from passerelle.trial.judging import judge
from passerelle.trial.trials import blocks, history
from passerelle.trial.verdict import Record

SCORED = """
SELECT p.id, p.role, p.version, p.trial, p.output, t.value FROM predictions p JOIN truths t USING (id)
WHERE p.status = 'scored' AND p.event_at >= ? AND p.event_at < ? ORDER BY p.event_at, p.id
"""

#: Version → id → (its output, the truth).
Answers = dict[int, dict[str, tuple[list[float], Any]]]


def months_of(
    project: Project, script: Script, stamps: Sequence[str], begins: Sequence[datetime], *, ledger: Path
) -> tuple[Month, ...]:
    """A Month for each period (its delivery's stamp, and when its events begin); for each trial, if several began."""
    ends = [*begins[1:], datetime.max.replace(tzinfo=begins[0].tzinfo)]
    trials = history(open_state(project.state), PRODUCTION)
    months = []
    for stamp, since, until in zip(stamps, begins, ends, strict=True):
        tried = [one for one in trials if since <= one.plan.started_at < until]
        records: list[Record | None] = [*tried] or [None]
        months += [_month(project, script, stamp, one, since=since, until=until, ledger=ledger) for one in records]
    return tuple(months)


def _month(
    project: Project,
    script: Script,
    stamp: str,
    record: Record | None,
    *,
    since: datetime,
    until: datetime,
    ledger: Path,
) -> Month:
    engine = open_state(project.state)
    champion = record.plan.champion if record else _champion_at(project, since)
    answers, events_answered = _answers(ledger, since, until, record)
    figures = _figures(project, champion, record, answers)
    told = [event for event in events(engine) if since <= event.at < until]
    opened = [one for one in find_alerts(engine, PRODUCTION) if since <= one.opened_at < until]
    known = blocks(engine, record.plan.id) if record else []
    verdict = record.verdict if record else None
    said = verdict or (judge(record.plan, known) if record else None)  # of a trial that goes on, where it stands
    sealed = {run.key for run in runs.all(engine) if run.status == "sealed"}  # one that was killed, and taken again
    reasons = [
        event.sentence
        for event in told
        if event.kind == "decision" or ("no version was made" in event.sentence and event.subject not in sealed)
    ]
    return Month(
        month=stamp,
        champion=champion,
        challenger=record.plan.challenger if record else None,
        mode=record.plan.mode if record else None,
        events=events_answered,
        **figures,
        blocks=said.blocks if said else 0,
        verdict=verdict.kind if verdict else None,
        promoted=record is not None and _is_promoted(project, record),
        reason=said.sentence if said else (reasons[-1] if reasons else ""),
        decided_at=record.decided_at if record else None,
        incidents=tuple(one.sentence for one in script.of(stamp)),
        alerts=tuple(f"{one.level}, {one.watch}: {one.sentence}" for one in opened),
        refused=tuple(event.sentence for event in told if event.kind == "delivery" and "quarantine" in event.sentence),
    )


def _is_promoted(project: Project, record: Record) -> bool:
    """Did the revision that the trial ended with let the challenger answer?"""
    if record.revision is None:
        return False
    return revisions(project, record.plan.environment).get(record.revision).champion.version == record.plan.challenger


def _champion_at(project: Project, moment: datetime) -> int:
    """Who answered when the period began."""
    place = revisions(project, PRODUCTION)
    there = [place.get(number) for number in place.numbers()]
    before = [one for one in there if one.created_at <= moment] or there[:1]
    return before[-1].champion.version


def _answers(ledger: Path, since: datetime, until: datetime, record: Record | None) -> tuple[Answers, int]:
    """What each version said of the period's events (of a split: of its own share while it was tried)."""
    answers: Answers = {}
    count = 0
    for id_, role, version, trial, output, value in ask(ledger, SCORED, [since, until]).rows:
        count += role == "live"
        if record is not None and record.plan.mode == "split" and trial != record.plan.id:
            continue
        answers.setdefault(version, {})[id_] = (output, json.loads(value))
    return answers, count


def _figures(project: Project, champion: int, record: Record | None, answers: Answers) -> dict[str, dict[str, float]]:
    sides = {"champion": answers.get(champion, {})}
    if record is not None:
        sides["challenger"] = answers.get(record.plan.challenger, {})
        if record.plan.mode == "shadow" and sides["challenger"]:  # one that failed on every event has no score
            both = sides["champion"].keys() & sides["challenger"].keys()
            sides = {name: {id_: said[id_] for id_ in sorted(both)} for name, said in sides.items()}
    versions = {"champion": champion, "challenger": record.plan.challenger if record else champion}
    found: dict[str, dict[str, float]] = {}
    for name, said in sides.items():
        if said:
            for metric, value in _measure(project, versions[name], list(said.values())).items():
                found.setdefault(metric, {})[name] = value
    kept = ("brier", "log_loss", "auc", "rmse", "mae")
    return {name: values for name, values in found.items() if name in kept}


def _measure(project: Project, version: int, pairs: Sequence[tuple[list[float], Any]]) -> dict[str, float]:
    outputs: NDArray[Any] = np.array([output for output, _ in pairs], dtype=np.float64)
    values = [value for _, value in pairs]
    if project.task.kind == "regression":
        truth: NDArray[Any] = np.array(values, dtype=np.float64)
    else:
        found = registry_of(project).get(version)
        truth = positions(values, verify(found.path, digest=found.digest).manifest.classes)
    measured = evaluate(project.task.kind, outputs, truth)
    return {name: value for name, value in measured.items() if np.isfinite(value)}
