"""Trials of every standing, each in a project of its own: a split that runs, PROMOTE, ROLL_BACK, BROKEN, INVALID."""

from __future__ import annotations

import asyncio
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import lived
import msgspec
import numpy as np

from passerelle.bundle.keys import public_hex, throwaway_key, trust
from passerelle.ledger.compaction import compact
from passerelle.ledger.position import Position
from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.loop.rollout import deploy, reconcile
from passerelle.loop.signing import sign
from passerelle.loop.train import registry_of
from passerelle.project.settings import FILE, Guardrail, Project, load_project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.breaker import breaks, broken_verdict, last_answers, look_since
from passerelle.trial.counts import Arm, Stage, Tally
from passerelle.trial.judging import digest, judge
from passerelle.trial.verdict import Block, Broken, Plan, Verdict

DAY = timedelta(days=1)
Standing = Literal["running", "PROMOTE", "ROLL_BACK", "BROKEN", "INVALID"]
STANDINGS: tuple[Standing, ...] = ("running", "PROMOTE", "ROLL_BACK", "BROKEN", "INVALID")
#: When the pages are looked at; the trial began 24 days before, and was raised from 10 % to 50 % after 7.
NOW = lived.NOW
BEGAN = NOW.replace(hour=9) - 24 * DAY
STEPPED = BEGAN + 7 * DAY
#: Units a day.
UNITS = 600


def begun(root: Path) -> Project:
    """A project whose second version is tried in a split by steps, with guardrails, and no day has closed."""
    project = lived.scaffold(root)
    key = throwaway_key()
    trust(project.state, public_hex(key))
    for number in (1, 2):
        lived.version(project, number, key, at=BEGAN - (3 - number) * 10 * DAY)
    registry, engine = registry_of(project), open_state(project.state)
    deploy(project, registry, 1, reason="the first version", now=BEGAN - 19 * DAY)
    plan = _plan()
    for at, share in ((BEGAN, 0.1), (STEPPED, 0.5)):
        deploy(project, registry, 2, share=share, trial=plan.id, reason=f"{share:.0%} of the units", now=at)
    trials.start(engine, plan)
    reconcile(project, registry)
    return project


def tried(root: Path, standing: Standing, *, first: Project) -> Project:
    """A copy of that project, in which the trial came to this."""
    shutil.copytree(first.root, root)
    project, plan = load_project(root / FILE), _plan()
    engine = open_state(project.state)
    shift = {"running": 0.0022, "PROMOTE": -0.012, "ROLL_BACK": 0.016}.get(standing, 0.002)
    for block in _blocks(plan, days=5 if standing == "BROKEN" else 21, shift=shift, astray=standing == "INVALID"):
        trials.keep(engine, plan.id, block)
    if standing in ("running", "BROKEN"):
        _answers(project, plan, failing=standing == "BROKEN")
    if standing != "running":
        _end(project, plan, standing)
    return project


def _plan() -> Plan:
    return msgspec.structs.replace(
        lived.make_plan(champion=1, challenger=2, revision=2, at=BEGAN),
        mode="split",
        share=0.5,
        steps=(0.1, 0.5),
        hold_days=7.0,
        rollback_above=0.0,
        breaker_percent=20.0,
        guardrails=(
            Guardrail(watch="errors", margin=0.02),
            Guardrail(watch="invalid", margin=0.02),
            Guardrail(watch="latency", limit_ms=50.0, margin=0.05),
        ),
    )


def _blocks(plan: Plan, *, days: int, shift: float, astray: bool) -> list[Block]:
    chance = random.Random(11)  # noqa: S311  (figures of a test)
    first = plan.started_at.replace(hour=0, minute=0) + DAY
    made = []
    for number in range(days):
        share = 0.1 if first + number * DAY < STEPPED else 0.5
        got = round(UNITS * (share + (0.09 if astray and number >= 8 else chance.gauss(0, 0.012))))
        units = (UNITS - got, got)
        difference = shift + chance.gauss(0, 0.005)
        labelled = tuple(round(0.97 * one) for one in units)
        made.append(
            Block(
                start=first + number * DAY,
                rows=sum(labelled),
                difference=difference,
                champion_loss=0.14,
                challenger_loss=0.14 + difference,
                unlabelled=UNITS - sum(labelled),
                challenger_failed=2,
                champion_failed=1,
                units=units,
                labelled_units=(round(0.4 * units[0]), round(0.4 * units[1])),
                stages=(Stage(share=share, units=units, labelled=(round(0.4 * units[0]), round(0.4 * units[1]))),),
                arms=(_arm(units[0], labelled[0], early=0.5), _arm(units[1], labelled[1], early=0.3)),
                guards=(
                    (Tally(share=share, events=UNITS, worse=round(20 * share), better=round(20 * (1 - share))),),
                    (Tally(share=share, events=UNITS, worse=0, better=0),),
                    (Tally(share=share, events=UNITS - 3, worse=0, better=0, unmeasured=3),),
                ),
                position=Position(writers={"w0": (number, 12)}),
            )
        )
    return made


def _arm(events: int, labelled: int, *, early: float) -> Arm:
    """Half of what is left is known in each tenth of the horizon."""
    delays, left = [], labelled
    for _ in range(9):
        delays.append(round(left * early))
        left -= delays[-1]
    return Arm(events=events, labelled=labelled, delays=(*delays, left))


def _answers(project: Project, plan: Plan, *, failing: bool) -> None:
    """The ledger's answers of the days that wait, half by each version; of a trial that breaks, the last ones fail."""
    generator = np.random.default_rng(3)
    folder, start = ledger_folder(project.state, plan.environment), NOW - 2 * DAY
    records: list[Record] = []
    for number in range(2 * UNITS):
        at = start + number * DAY / UNITS
        challenger = bool(generator.random() < 0.5)
        fails = failing and challenger and number > 2 * UNITS - 90
        score = float(generator.beta(2, 6))
        records.append(
            Prediction(
                id=f"{number}",
                unit=f"{number}",
                role="live",
                status="failed" if fails else "scored",
                revision=3,
                version=2 if challenger else 1,
                digest="",
                trial=plan.id,
                probability=0.5,
                inputs={"temp": 50.0, "carrier": "UA"},
                output=None if fails else (score,),
                event_at=at,
                received_at=at,
                latency_ms=12.0,
            )
        )
        known = at + timedelta(hours=12)
        if known <= NOW:
            late = bool(generator.random() < score)
            records.append(Outcome(id=f"{number}", value=late, known_at=known, received_at=known))
    with ThreadPoolExecutor(1) as apart:  # a browser that is open has its loop in this thread
        apart.submit(lambda: asyncio.run(record(LocalStorage(folder), records, slot="w0"))).result()
    compact(folder, now=NOW)


def _end(project: Project, plan: Plan, standing: Standing) -> None:
    engine, registry = open_state(project.state), registry_of(project)
    blocks = trials.blocks(engine, plan.id)
    said: Verdict = judge(plan, blocks)
    if standing == "BROKEN":
        found = last_answers(ledger_folder(project.state, plan.environment), plan, since=look_since(NOW))
        broken = breaks(plan, found)
        assert isinstance(broken, Broken), found
        said = broken_verdict(plan, blocks, broken)
    assert said.kind == standing, said.sentence
    at: datetime = NOW - timedelta(hours=1)
    trials.decide(engine, plan.id, said, at=at, delta={"predictions": 7, "outcomes": 5}, digest=digest(plan, blocks))
    winner = 2 if standing == "PROMOTE" else 1
    made = deploy(project, registry, winner, reason=f"the trial of version 2: {standing}", now=at)
    execution = f"version {winner} answers alone from revision {made.revision}"
    trials.end(engine, plan.id, at=at, revision=made.revision, execution=execution)
    sign(project, "production", key=throwaway_key(), now=at)
    reconcile(project, registry)
