from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from doorway import Served

from passerelle.bundle.manifest import MANIFEST, Environment, Manifest, Provenance, read_manifest
from passerelle.deployment.spec import Deployment, Revisions, Variant, environment_folder
from passerelle.errors import LedgerError, ScoringError
from passerelle.ledger.records import Record
from passerelle.ledger.segments import read_segment
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.project.settings import load_project
from passerelle.schema import Column, Columns, Schema, count
from passerelle.serving.contracts import add_contracts
from passerelle.serving.endpoint import Endpoint, start_endpoint
from passerelle.serving.http import Limits
from passerelle.serving.service import Service

MADE = datetime(2013, 2, 1, tzinfo=UTC)
SCHEMA = Schema(
    columns=(
        Column(name="distance", kind="number", minimum=0),
        Column(name="carrier", kind="string"),
        Column(name="plane", kind="string", nullable=True),
    )
)


class FormulaScorer:
    """A scorer whose behaviour a test decides: probability = distance / 1000, unless told otherwise."""

    kind = "inline"

    def __init__(self, function: Callable[[Columns], np.ndarray] | None = None) -> None:
        self.function = function or (lambda columns: (columns["distance"] / 1000).reshape(-1, 1))
        self.batches: list[Columns] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = self.closed = 0
        self.start_error: Exception | None = None
        self.in_flight = 0

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error
        self.started += 1

    async def score(self, columns: Columns) -> np.ndarray:
        assert self.in_flight == 0, "two batches in flight"
        assert self.closed == 0, "scored after it was closed"
        self.in_flight += 1
        self.batches.append(columns)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            return self.function(columns)
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        self.closed += 1


class Memory:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.error: LedgerError | None = None
        self.closed = False

    async def append(self, records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        self.records += records

    async def close(self) -> None:
        self.closed = True


def write_bundle(folder: Path, **changes: Any) -> tuple[str, str]:
    """A bundle's manifest, and nothing else: for scorers that a test hands over. (path, digest)."""
    manifest = Manifest(
        **{
            "project": "flights",
            "task": "binary",
            "target": "late",
            "classes": (False, True),
            "schema": SCHEMA,
            "provenance": Provenance(created_at=MADE),
            "environment": Environment(python="python", python_version="3.11", platform="linux", packages={}),
            "files": {},
            **changes,
        }
    )
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return str(folder), read_manifest(folder)[1]


class House:
    """An endpoint in this process, its bundles, its scorers and its ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memory = Memory()
        self.scorers: dict[int, list[FormulaScorer]] = {}
        self.made: dict[str, int] = {}
        self.prepare: Callable[[int, FormulaScorer], None] = lambda _version, _scorer: None
        self.service = Service(open_scorer=self.open, open_recorder=lambda _: self.memory, deadline_s=2.0)

    def open(self, bundle: Path, *, digest: str, trusted_keys: tuple[str, ...], deadline_s: float) -> FormulaScorer:
        assert digest == read_manifest(bundle)[1]
        assert isinstance(trusted_keys, tuple)
        assert deadline_s > 0
        version = self.made[str(bundle)]
        scorer = FormulaScorer()
        self.prepare(version, scorer)
        self.scorers.setdefault(version, []).append(scorer)
        return scorer

    def fails_on(self, value: float) -> None:
        """Every scorer from now on fails on any batch with this distance in it."""

        def function(columns: Columns) -> np.ndarray:
            if (columns["distance"] == value).any():
                raise ScoringError(f"distance {value} divides by zero")
            return (columns["distance"] / 1000).reshape(count(columns), 1)

        self.prepare = lambda _version, scorer: setattr(scorer, "function", function)

    def variant(self, version: int, *, weight: float = 1.0, mode: str = "live", **changes: Any) -> Variant:
        path = self.folder / f"version-{version}"
        if not path.exists():
            # A constant's name makes each version's digest its own.
            write_bundle(path, **{"constants": (f"version {version}",), **changes})
            self.made[str(path)] = version
        digest = read_manifest(path)[1]
        return Variant(version=version, bundle=str(path), digest=digest, weight=weight, mode=mode)

    def deployment(self, revision: int, *variants: Variant, **changes: Any) -> Deployment:
        return Deployment(
            **{
                "project": "flights",
                "environment": "production",
                "revision": revision,
                "variants": variants or (self.variant(1),),
                "salt": "salt",
                "created_at": MADE,
                "reason": "a test",
                **changes,
            }
        )


@pytest.fixture
def formula() -> type[FormulaScorer]:
    return FormulaScorer


@pytest.fixture(scope="session")
def new_house() -> type[House]:
    return House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


class Land:
    """A project on the disk, whose versions are arithmetic, and its endpoints: real processes."""

    supervisor = (sys.executable, str(Path(__file__).with_name("arithmetic_supervisor.py")))

    def __init__(self, root: Path) -> None:
        (root / "passerelle.toml").write_text(
            '[project]\nname = "flights"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
        )
        self.project = load_project(root / "passerelle.toml")
        self.environment = environment_folder(self.project.state, "production")
        self.revisions = Revisions(self.environment)

    def deploy(self, version: int, **changes: Any) -> int:
        """Make the next revision: this version alone. Its number."""
        folder = self.project.state / "bundles" / str(version)
        if not folder.exists():
            write_bundle(folder, constants=(str(version),))
        after = (self.revisions.numbers() or [0])[-1]
        variant = Variant(version=version, bundle=str(folder), digest=read_manifest(folder)[1])
        deployment = Deployment(
            **{
                "project": "flights",
                "environment": "production",
                "revision": after + 1,
                "variants": (variant,),
                "salt": "salt",
                "created_at": MADE,
                "reason": "a test",
                **changes,
            }
        )
        self.revisions.put(deployment, after=after)
        return after + 1

    def serve(self, *, workers: int = 1, port: int = 0) -> Endpoint:
        return start_endpoint(
            self.project, "production", port=port, workers=workers, timeout_s=30, command=self.supervisor
        )

    def records(self) -> list[Record]:
        """Whatever the segments hold."""
        storage = LocalStorage(ledger_folder(self.project.state, "production"))
        found: list[Record] = []
        for name in storage.names():
            records, damage = read_segment(storage.read(name) or b"")
            assert damage is None
            found += records
        return found

    def processes(self, endpoint: Endpoint) -> list[psutil.Process]:
        """The supervisor and all that it started."""
        parent = psutil.Process(endpoint.process.pid)
        return [parent, *parent.children(recursive=True)]


@pytest.fixture
def land(tmp_path: Path) -> Land:
    return Land(tmp_path)


@pytest.fixture
def bundle() -> Callable[..., tuple[str, str]]:
    return write_bundle


@pytest.fixture
def starting(house: House, tmp_path: Path) -> Iterator[Served]:
    """A door with the routes of all contracts, before the first revision."""
    with Served(house, tmp_path / "tokens.json", max_rows=3, max_body_bytes=4000) as one:
        variables = {"AIP_PREDICT_ROUTE": "/v1/endpoints/e:predict", "AIP_HEALTH_ROUTE": "/healthy"}
        add_contracts(one.http, house.service, limits=Limits(max_rows=3), variables=variables)
        yield one


@pytest.fixture
def ready(starting: Served) -> Served:
    """The same, answering."""
    starting.apply(starting.house.deployment(1))
    return starting
