"""Reading: what the project's state holds, as one value that the pages are made of; read again when it has changed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from passerelle.bundle.keys import trusted
from passerelle.bundle.manifest import PROFILE, Label, read_manifest
from passerelle.bundle.profile import Profile, read_profile
from passerelle.data.deliveries import Delivery
from passerelle.data.quarantine import Report, quarantine_path
from passerelle.decoding import prepared
from passerelle.deployment.spec import Deployment
from passerelle.errors import BundleError
from passerelle.loop.rollout import revisions
from passerelle.loop.train import registry_of
from passerelle.monitoring.alerts import Alert, find_alerts
from passerelle.monitoring.budget import Budget, budget_of
from passerelle.monitoring.silences import Silence, read_silences
from passerelle.monitoring.windows import Window, read_windows
from passerelle.project.settings import Project
from passerelle.registry.versions import Version
from passerelle.state import runs, tables
from passerelle.state.database import open_state
from passerelle.state.runs import Run
from passerelle.state.timeline import Event, events
from passerelle.trial import trials
from passerelle.trial.judging import judge
from passerelle.trial.signing import Checked, check_record
from passerelle.trial.verdict import Block, Record, Verdict

#: What the charts are drawn from.
_WATCHED = ("performance", "input_drift", "score_drift", "estimated")
#: The counts behind drift: read a day at a time, since they are large.
_COUNTS = "counts"
_DAY = timedelta(days=1)
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,120}")


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A version, and how it was made."""

    number: int
    created_at: datetime
    digest: str
    #: Metric → value on its holdout.
    metrics: dict[str, float]
    #: What the gate said; None for a version that passed none (an imported one).
    gate: str | None
    #: "inline, process"
    forms: str | None
    #: What → from where: notebook, snapshot, code, environment, run.
    origin: dict[str, str]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial said after a block."""

    start: datetime
    estimate: float | None
    lower: float | None
    upper: float | None
    promote_evidence: float
    rollback_evidence: float
    #: Mature events so far.
    events: int = 0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a project's environment, whole, as it was read at one moment."""

    project: Project
    environment: str
    #: All, oldest first.
    revisions: tuple[Deployment, ...]
    versions: tuple[Made, ...]
    trials: tuple[Record, ...]
    #: Trial → its closed blocks.
    blocks: dict[str, tuple[Block, ...]]
    alerts: tuple[Alert, ...]
    deliveries: tuple[Delivery, ...]
    runs: tuple[Run, ...]
    events: tuple[Event, ...]
    #: Watch → its closed windows.
    windows: dict[str, tuple[Window, ...]]
    #: Alarms that chance may have raised, beside those that came.
    budget: Budget = Budget(families=(), expected=0.0, raised=0)
    silences: tuple[Silence, ...] = ()

    @property
    def current(self) -> Deployment | None:
        """The revision that holds."""
        return self.revisions[-1] if self.revisions else None


class Reader:
    """Reads the state of one environment, and keeps what it read until the state changes."""

    def __init__(self, project: Project, environment: str) -> None:
        self._project = project
        self._environment = environment
        self._engine = open_state(project.state)
        self._registry = project.state / "registry.db"
        self._revisions: dict[int, Deployment] = {}
        self._kept: tuple[str, Seen] | None = None
        self._said: dict[tuple[str, int], Verdict] = {}
        self._windows: dict[str, tuple[Window, ...]] = {}
        self._classes: dict[int, tuple[Label, ...]] = {}
        self._references: dict[int, Profile] = {}

    def fingerprint(self) -> str:
        """Another text as soon as anything that a page shows is another: a few counts, and what open alerts say."""
        with self._engine.connect() as connection:
            counts = [tuple(connection.execute(question).one()) for question in _QUESTIONS]
            said = "".join(connection.execute(_OPEN).scalars())
        changed = self._registry.stat().st_mtime_ns if self._registry.exists() else 0
        newest = (revisions(self._project, self._environment).numbers() or [0])[-1]
        said = hashlib.sha256(said.encode()).hexdigest()
        return "-".join(str(value) for value in (*(one for row in counts for one in row), newest, changed, said))

    def read(self) -> Seen:
        """The state as it is now."""
        mark = self.fingerprint()
        kept = self._kept
        if kept is None or kept[0] != mark:
            kept = self._kept = (mark, self._read())
        return kept[1]

    def said(self, record: Record, blocks: Sequence[Block]) -> list[Verdict]:
        """What the trial said after each of its blocks, by the rule that decides; a block is never changed."""
        found = []
        for number in range(1, len(blocks) + 1):
            key = (record.plan.id, number)
            if key not in self._said:
                self._said[key] = judge(record.plan, blocks[:number])
            found.append(self._said[key])
        return found

    def checked(self, record: Record) -> Checked:
        """What is to be said of a trial's signature, as the state is now."""
        return check_record(record, trials.table(self._engine, record.plan.id), trusted(self._project.state))

    def report(self, delivery: str) -> Report | None:
        """The report of a quarantined delivery; None if there is no such delivery or it was accepted since."""
        known = {one.id for one in self.read().deliveries if one.status == "quarantined"}
        if delivery not in known or not _ID.fullmatch(delivery):
            return None
        report: Report | None = _decode(quarantine_path(self._project, delivery) / "report.json", Report)
        return report

    def counts(self, start: datetime) -> tuple[int, Profile] | None:
        """What was counted of a day, and the version whose reference it was counted like; None if nothing was."""
        found = read_windows(self._engine, self._environment, _COUNTS, since=start, until=start + _DAY)
        if not found:
            return None
        try:
            counted = msgspec.convert(found[0].value, prepared(_Counted))
        except msgspec.ValidationError:  # of a later version of passerelle
            return None
        return counted.version, counted.profile

    def classes(self, version: int) -> tuple[Label, ...]:
        """A version's classes; () for numbers, or if its bundle is not here any more."""
        if version not in self._classes:
            found = next((one for one in registry_of(self._project).versions() if one.number == version), None)
            try:
                self._classes[version] = () if found is None else read_manifest(found.path)[0].classes
            except BundleError:
                return ()
        return self._classes[version]

    def reference(self, version: int) -> Profile | None:
        """A version's reference profile; None if its bundle is not here any more."""
        if version not in self._references:
            found = next((one for one in registry_of(self._project).versions() if one.number == version), None)
            if found is None:
                return None
            try:
                self._references[version] = read_profile(found.path / PROFILE)
            except BundleError:
                return None
        return self._references[version]

    def _watched(self, watch: str) -> tuple[Window, ...]:
        """A series, of which only what is new is read: a day that was measured is never measured again."""
        kept = self._windows.get(watch, ())
        since = kept[-1].start if kept else None
        new = read_windows(self._engine, self._environment, watch, since=since)
        self._windows[watch] = (*kept[:-1], *new)
        return self._windows[watch]

    def _read(self) -> Seen:
        engine, environment = self._engine, self._environment
        found = tuple(trials.history(engine, environment))
        place = revisions(self._project, environment)
        for number in place.numbers():
            if number not in self._revisions:
                self._revisions[number] = place.get(number)  # a revision is never changed
        return Seen(
            project=self._project,
            environment=environment,
            revisions=tuple(self._revisions[number] for number in sorted(self._revisions)),
            versions=self._versions(),
            trials=found,
            blocks={one.plan.id: tuple(trials.blocks(engine, one.plan.id)) for one in found},
            alerts=tuple(find_alerts(engine, environment)),
            deliveries=_deliveries(engine),
            runs=tuple(runs.all(engine)),
            events=tuple(events(engine)),
            windows={watch: self._watched(watch) for watch in _WATCHED},
            budget=budget_of(engine, self._project, environment),
            silences=self._silences(),
        )

    def _silences(self) -> tuple[Silence, ...]:
        with self._engine.connect() as connection:
            return read_silences(connection, self._environment)

    def _versions(self) -> tuple[Made, ...]:
        """None before there is a registry: to look into one that is not there makes it, which takes seconds."""
        if not self._registry.exists() and "PASSERELLE_REGISTRY_URI" not in os.environ:
            return ()
        return tuple(_made(self._project, version) for version in registry_of(self._project).versions())


def points(blocks: Sequence[Block], said: Sequence[Verdict]) -> tuple[Point, ...]:
    """What a trial said after each block, as a chart has it."""
    return tuple(
        Point(
            start=block.start,
            estimate=one.estimate,
            lower=one.lower,
            upper=one.upper,
            promote_evidence=one.promote_evidence,
            rollback_evidence=one.rollback_evidence,
            events=one.rows,
        )
        for block, one in zip(blocks, said, strict=True)
    )


def _ends(table: sa.Table, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return sa.select(sa.func.count(), *columns).select_from(table)


_QUESTIONS = (
    _ends(tables.timeline, sa.func.max(tables.timeline.c.id)),
    _ends(tables.blocks),
    _ends(tables.windows),
    _ends(tables.alerts, sa.func.count(tables.alerts.c.closed_at)),
    _ends(
        tables.trials,
        *(sa.func.sum(sa.case((tables.trials.c.status == one, 1), else_=0)) for one in ("running", "ended")),
    ),
    _ends(tables.deliveries, sa.func.sum(sa.case((tables.deliveries.c.status == "accepted", 1), else_=0))),
    _ends(tables.runs, sa.func.count(tables.runs.c.finished_at)),
)

#: What an open alert says is written over as long as it is open; the windows that are shown are not.
_OPEN = (
    sa.select(sa.type_coerce(tables.alerts.c.value, sa.String))
    .where(tables.alerts.c.closed_at.is_(None))
    .order_by(tables.alerts.c.id)
)


def _deliveries(engine: sa.Engine) -> tuple[Delivery, ...]:
    """Every delivery, in the order in which they came."""
    named = sa.select(tables.files.c.delivery, tables.files.c.name).order_by(tables.files.c.name)
    query = sa.select(tables.deliveries).order_by(tables.deliveries.c.at, tables.deliveries.c.id)
    with engine.connect() as connection:
        files: dict[str, list[str]] = {}
        for delivery, name in connection.execute(named):
            files.setdefault(delivery, []).append(name)
        rows = connection.execute(query).mappings().all()
    return tuple(
        Delivery(
            id=row["id"],
            at=row["at"],
            status=row["status"],
            files=tuple(files.get(row["id"], ())),
            rows=row["rows"],
            problems=tuple(row["problems"]),
        )
        for row in rows
    )


class _Counted(msgspec.Struct):
    """What of a window of counts is read."""

    version: int
    profile: Profile


class _Gate(msgspec.Struct):
    sentence: str


class _RunReport(msgspec.Struct):
    """What of a run's report.json is shown."""

    gate: _Gate
    origin: dict[str, str]


def _made(project: Project, version: Version) -> Made:
    run = version.tags.get("run", "")
    report = _decode(project.state / "runs" / run / "report.json", _RunReport) if _ID.fullmatch(run) else None
    origin = {} if report is None else {name: text for name, text in report.origin.items() if name != "forms"}
    return Made(
        number=version.number,
        created_at=version.created_at,
        digest=version.digest,
        metrics=version.metrics,
        gate=None if report is None else report.gate.sentence,
        forms=None if report is None else report.origin.get("forms"),
        origin=origin or _provenance(version),
    )


def _provenance(version: Version) -> dict[str, str]:
    """Where a version without a run's report comes from, by its bundle."""
    try:
        manifest, _ = read_manifest(version.path)
    except BundleError:
        return {}
    said = manifest.provenance
    told = {"imported from": said.imported_from, "notebook": said.notebook, "run": said.run, "code": said.code_version}
    return {name: text for name, text in told.items() if text is not None}


def _decode(path: Path, kind: type[Any]) -> Any:
    """A file of JSON; None if it is not there or is another format's."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=prepared(kind))
    except (OSError, msgspec.DecodeError):
        return None
