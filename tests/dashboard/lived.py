"""A project that has lived: deliveries, versions, revisions, trials, alerts, through the rooms' own functions."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from moved import REFERENCE, move

from passerelle.bundle.keys import public_hex, throwaway_key, trust
from passerelle.bundle.manifest import PROFILE, Environment, Manifest, Provenance
from passerelle.bundle.profile import encode_profile
from passerelle.bundle.seal import close, draft_folder
from passerelle.data.landing import ingest
from passerelle.ledger.position import Position
from passerelle.loop.rollout import deploy, reconcile, revisions
from passerelle.loop.train import registry_of
from passerelle.monitoring.alerts import Finding, settle
from passerelle.monitoring.rules import rule_of
from passerelle.monitoring.windows import Window, keep_window
from passerelle.project.settings import FILE, Project, Watch, load_project
from passerelle.schema import Schema
from passerelle.state import runs
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import Event, record
from passerelle.trial import trials
from passerelle.trial.judging import digest, judge
from passerelle.trial.verdict import Block, Kind, Plan, Record

DAY = timedelta(days=1)
YEAR = datetime(2013, 1, 1, tzinfo=UTC)
#: When the pages are looked at.
NOW = datetime(2013, 6, 27, 12, tzinfo=UTC)
STORMS = (datetime(2013, 2, 9, tzinfo=UTC), datetime(2013, 3, 8, tzinfo=UTC))
ODD = "events-<script>alert(1)<b>.csv"

_TOML = """[project]
name = "flights"

[task]
kind = "binary"
target = "late"
key = ["id"]
time = "at"
horizon_hours = 36

[loop]
approval = "{approval}"

[data]
main = "events"
outcomes = "outcomes"
"""


def scaffold(root: Path, *, approval: str = "automatic") -> Project:
    """A project to which nothing has happened."""
    root.mkdir(parents=True, exist_ok=True)
    (root / FILE).write_text(_TOML.format(approval=approval), encoding="utf-8")
    return load_project(root / FILE)


def live(
    root: Path, *, versions: int = 5, running_days: int = 19, days: int = 143, approval: str = "automatic"
) -> Project:
    """A project with a delivery and a version a month, a trial for each, storms, and one trial that is running."""
    project = scaffold(root, approval=approval)
    key = throwaway_key()
    trust(project.state, public_hex(key))
    engine = open_state(project.state)
    _deliver(project, months=versions)
    champion = 1
    for number in range(1, versions + 1):
        made = YEAR + number * 31 * DAY
        version(project, number, key, at=made + timedelta(hours=12))
        if number == 1:
            deploy(project, registry_of(project), 1, reason="the first version", now=made + timedelta(hours=13))
            continue
        at = made + timedelta(hours=13)
        before = revisions(project, "production").current()
        assert before is not None
        plan = make_plan(champion=champion, challenger=number, revision=before.revision + 1, at=at)
        reason = f"version {number} is tried in shadow"
        deploy(project, registry_of(project), number, shadow=True, trial=plan.id, reason=reason, now=at)
        trials.start(engine, plan)
        if number == versions:
            fill(project, plan, days=running_days, shift=0.0016)
            break
        shift = 0.012 if number == 3 else -0.006
        ended = decide(project, fill(project, plan, days=20, shift=shift), at=at + 25 * DAY)
        kind: Kind | None = ended.verdict.kind if ended.verdict else None
        winner = number if kind == "PROMOTE" else champion
        said = deploy(
            project, registry_of(project), winner, reason=f"the trial of version {number}: {kind}", now=at + 25 * DAY
        )
        trials.end(
            engine,
            plan.id,
            at=at + 25 * DAY,
            revision=said.revision,
            execution=f"version {winner} answers from revision {said.revision}",
        )
        champion = winner
    reconcile(project, registry_of(project))
    watch(project, days=days)
    return project


def version(project: Project, number: int, key: Ed25519PrivateKey, *, at: datetime) -> int:
    """A version without a model: its manifest, its run and its report."""
    engine = open_state(project.state)
    run = f"run{number:02d}{'a9f3c2' * 3}"
    runs.begin(engine, run, at=at - timedelta(minutes=1))
    record(
        engine,
        Event(
            at=at - timedelta(minutes=1), kind="run", subject=run, sentence="the notebook runs on events at version 3"
        ),
    )
    manifest = Manifest(
        project=project.name,
        task="binary",
        target="late",
        classes=(False, True),
        schema=Schema(columns=()),
        provenance=Provenance(run=run, notebook="notebooks/flights.ipynb", created_at=at),
        environment=Environment(python="python", python_version="3.11", platform="", packages={}),
        files={},
    )
    with draft_folder(project.state / "bundles") as draft:
        (draft / PROFILE).write_bytes(encode_profile(REFERENCE))
        bundle = close(draft, manifest, into=project.state / "bundles", key=key)
    loss = 0.452 - 0.006 * number
    metrics = {"log_loss": loss, "brier": loss / 3.2, "auc": 0.71 + 0.008 * number, "accuracy": 0.8, "cost": 0.61}
    report = {
        "gate": {
            "sentence": f"log_loss {loss:.4g} on 7,214 held-out rows, champion 0.4461: within the bound of 0.4729."
        },
        "origin": {
            "notebook": "notebooks/flights.ipynb, sha256 5f2b…",
            "snapshot": f"events at version {number}, outcomes at version {number}",
            "environment": "Python 3.11.7, 61 packages, Linux",
            "code": "3c1f09a",
            "bundle": bundle.digest,
            "forms": "inline, process",
        },
    }
    folder = project.state / "runs" / run
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    made = registry_of(project).register(bundle, key=run, tags={"run": run}, metrics=metrics)
    runs.finish(engine, run, at=at, status="sealed", details={"version": made.number})
    return made.number


def make_plan(*, champion: int, challenger: int, revision: int, at: datetime) -> Plan:
    """A plan as the flights have it."""
    return Plan(
        id=f"production-{challenger}-{revision}",
        environment="production",
        champion=champion,
        challenger=challenger,
        mode="shadow",
        share=0.5,
        task="binary",
        classes=(False, True),
        loss="brier",
        cap=None,
        margin=0.0042,
        reference=0.1403,
        reference_source="its mean over the 28 days before",
        alpha=0.05,
        unit="day",
        min_days=14,
        max_days=60,
        horizon_hours=36,
        rollback_above=0.0042,
        planned_n=20_000,
        started_at=at,
    )


def fill(project: Project, plan: Plan, *, days: int, shift: float) -> Record:
    """So many closed blocks, whose differences lie about ``shift``."""
    engine = open_state(project.state)
    random_ = random.Random(plan.challenger)  # noqa: S311  (figures of a test)
    first = plan.started_at.replace(hour=0, minute=0) + DAY
    for number in range(days):
        base = 0.14 + 0.02 * math.sin(number / 3) + random_.gauss(0, 0.008)
        difference = shift + random_.gauss(0, 0.005)
        block = Block(
            start=first + number * DAY,
            rows=880 + random_.randrange(140),
            difference=difference,
            champion_loss=base,
            challenger_loss=base + difference,
            unlabelled=random_.randrange(30),
            challenger_failed=0,
            champion_failed=0,
            position=Position(writers={"w0": (number, 12)}),
        )
        trials.keep(engine, plan.id, block)
    found = trials.find(engine, plan.id)
    assert found is not None
    return found


def decide(project: Project, begun: Record, *, at: datetime) -> Record:
    """The verdict of what was filled in, kept."""
    engine = open_state(project.state)
    blocks = trials.blocks(engine, begun.plan.id)
    verdict = judge(begun.plan, blocks)
    assert verdict.decided_by is not None, verdict.sentence
    return trials.decide(
        engine, begun.plan.id, verdict, at=at, delta={"predictions": 7}, digest=digest(begun.plan, blocks)
    )


def watch(project: Project, *, days: int) -> None:
    """A loss for each day, high in storms, with an alert for each storm and one that is open."""
    engine = open_state(project.state)
    random_ = random.Random(7)  # noqa: S311  (figures of a test)
    first = YEAR + 32 * DAY
    with writing(engine) as connection:
        for number in range(days):
            start = first + number * DAY
            storm = 0.11 if any(abs(start - at) <= DAY / 2 for at in STORMS) else 0.0
            loss = 0.141 + 0.018 * math.sin(number / 21) + abs(random_.gauss(0, 0.012)) + storm
            figures = {
                "rows": 890 + random_.randrange(90),
                "loss": loss,
                "reference": 0.148,
                "expected": 0.145,
                "unlabelled": 11,
            }
            keep_window(connection, "production", Window(start=start, watch="performance", value=figures))
        move(connection, first=first, days=days)
    for at in STORMS:
        alert(
            project,
            "performance",
            opened=at + 2.5 * DAY,
            closed=at + 5.5 * DAY,
            day=at,
            sentence=f"the model lost 0.251 on {at:%Y-%m-%d} (911 predictions), 1.7 times as much as on the 38 "
            "ordinary days before (0.148).",
        )
    alert(
        project,
        "input_drift",
        opened=NOW - 2 * DAY,
        closed=None,
        day=NOW.replace(hour=0) - 4 * DAY,
        sentence="temp lies 0.4 standard deviations above its past, on 3 days in a row",
    )


def alert(
    project: Project, watched: Watch, *, opened: datetime, closed: datetime | None, day: datetime | None, sentence: str
) -> None:
    """An alert that opened, by a rule's finding, and closed if it did."""
    rule = rule_of(project, watched)
    with writing(open_state(project.state)) as connection:
        firing = Finding(state="firing", sentence=sentence, day=day)
        settle(connection, "production", rule, firing, now=opened)
        if closed is not None:
            settle(
                connection,
                "production",
                rule,
                Finding(state="quiet", sentence="two ordinary days in a row"),
                now=closed,
            )


def _deliver(project: Project, *, months: int) -> None:
    """A delivery a month, one with an odd name, and one with a renamed column, which is put aside."""
    inbox = project.root / project.data.inbox
    inbox.mkdir(exist_ok=True)
    for month in range(1, months + 1):
        folder = inbox / f"2013-{month:02d}"
        folder.mkdir()
        first = YEAR + (month - 1) * 31 * DAY
        rows = [
            f"{month}-{number},{(first + number * timedelta(hours=1)):%Y-%m-%dT%H:%M:%SZ},{number % 24}"
            for number in range(400)
        ]
        (folder / "events.csv").write_text("\n".join(["id,at,temp", *rows]) + "\n", encoding="utf-8")
        told = [
            f"{month}-{number},{'true' if number % 3 else 'false'},{(first + 20 * DAY):%Y-%m-%dT%H:%M:%SZ}"
            for number in range(400)
        ]
        (folder / "outcomes.csv").write_text("\n".join(["id,late,known_at", *told]) + "\n", encoding="utf-8")
        ingest(project, [folder], now=YEAR + month * 31 * DAY + timedelta(hours=11))
    bad = [(ODD, "temp"), ("events-renamed.csv", "temp_celsius")]
    for number, (name, column) in enumerate(bad):
        path = inbox / name
        value = "warm" if column == "temp" else "12"
        path.write_text(f"id,at,{column}\n9-{number},2013-07-01T00:00:00Z,{value}\n", encoding="utf-8")
        ingest(project, [path], now=YEAR + (months * 31 - 12 + number) * DAY)
