"""A project with a deployment and a ledger, made without training: days of events whose model is right, or is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from passerelle.bundle.manifest import MANIFEST, PROFILE, Environment, Manifest, Provenance
from passerelle.bundle.profile import encode_profile, profile
from passerelle.deployment.spec import Deployment, Revisions, Variant, environment_folder
from passerelle.ledger.compaction import compact
from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.project.settings import Project, load_project
from passerelle.schema import Column, Schema

DAY = timedelta(days=1)
FEBRUARY = datetime(2013, 2, 1, tzinfo=UTC)
SCHEMA = Schema(
    columns=(
        Column(name="temp", kind="number", nullable=True),
        Column(name="origin", kind="string"),
    )
)
SETTINGS = """
[project]
name = "flights"
[task]
kind = "binary"
target = "late"
key = ["id"]
time = "at"
horizon_hours = 36
"""


def make_project(root: Path, more: str = "") -> Project:
    """A project whose version 1 answers in production."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "passerelle.toml").write_text(SETTINGS + more, encoding="utf-8")
    project = load_project(root / "passerelle.toml")
    deploy(project, 1)
    return project


def deploy(project: Project, version: int, *, shift: float = 0.0) -> None:
    """Make a version answer: a bundle with no model in it, whose reference was ``shift`` degrees warmer."""
    bundle = project.state / "bundles" / str(version)
    bundle.mkdir(parents=True)
    manifest = Manifest(
        project=project.name,
        task="binary",
        target="late",
        classes=(False, True),
        schema=SCHEMA,
        provenance=Provenance(created_at=FEBRUARY),
        environment=Environment(python="python", python_version="3.11", platform="linux", packages={}),
        files={},
    )
    (bundle / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    rows = [inputs(number, shift) for number in range(2000)]
    outputs = np.random.default_rng(7).uniform(0.1, 0.5, (2000, 1))
    reference = profile(SCHEMA.validate(rows), outputs, SCHEMA)
    (bundle / PROFILE).write_bytes(encode_profile(reference))
    place = Revisions(environment_folder(project.state, "production"))
    number = (place.numbers() or [0])[-1] + 1
    variant = Variant(version=version, bundle=str(bundle.relative_to(project.root)), digest="d" * 64)
    made = Deployment(
        project=project.name,
        environment="production",
        revision=number,
        variants=(variant,),
        salt="s",
        created_at=FEBRUARY,
        reason=f"version {version}",
    )
    place.put(made, after=number - 1)


def inputs(number: int, shift: float = 0.0) -> dict[str, Any]:
    """An event's fields; the same for the same number."""
    noise = np.random.default_rng(number).normal()
    return {"temp": None if number % 50 == 0 else 10 + 5 * noise + shift, "origin": ("EWR", "JFK", "LGA")[number % 3]}


def live(
    project: Project,
    first: datetime,
    days: Sequence[float],
    *,
    events: int = 100,
    version: int = 1,
    shift: float = 0.0,
    labelled: float = 1.0,
    wobble: float = 0.03,
    said: tuple[float, float] = (0.1, 0.5),
) -> None:
    """Days from ``first`` on, of each the amount that the late rate lies above what the model says; compacted.

    The model says something between the two of ``said``.
    """
    records: list[Record] = []
    for number, above in enumerate(days):
        start = first + number * DAY
        random = np.random.default_rng([start.day, start.month])
        shock = random.normal(0, wobble)
        for event in range(events):
            at = start + DAY * event / events
            chance = said[0] + (said[1] - said[0]) * random.random()
            late = bool(random.random() < min(1.0, chance + above + shock))
            id_ = f"{start:%m%d}-{event}"
            records.append(
                Prediction(
                    id=id_,
                    unit=id_,
                    role="live",
                    status="scored",
                    revision=1,
                    version=version,
                    digest="d" * 64,
                    inputs=inputs(int(random.integers(1_000_000)), shift),
                    output=(chance,),
                    event_at=at,
                    received_at=at,
                )
            )
            if random.random() < labelled:
                known = at + timedelta(hours=6)
                records.append(Outcome(id=id_, value=late, known_at=known, received_at=known))
    folder = ledger_folder(project.state, "production")
    asyncio.run(record(LocalStorage(folder), records, slot="test"))
    compact(folder, now=first + len(days) * DAY)
