"""Active: one revision, loaded: its scorers, its batches, its schemas. Frozen but for what is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from passerelle.bundle.manifest import Manifest, read_manifest
from passerelle.bundle.scorer import Scorer
from passerelle.deployment.spec import Deployment, Variant
from passerelle.errors import BundleError, DeploymentError
from passerelle.schema import MAX_ISSUES, Columns, Issue, RowsError, Schema, take
from passerelle.serving.batching import Batcher, Scored
from passerelle.serving.measures import Measures
from passerelle.serving.routing import Router


class OpenScorer(Protocol):
    """Makes the scorer of a bundle: passerelle.bundle.opening.open_scorer, or a test's own. Called in a thread."""

    def __call__(self, bundle: Path, *, digest: str, trusted_keys: tuple[str, ...], deadline_s: float) -> Scorer:
        """A scorer that is not started yet. Raises BundleError if the bundle is damaged, changed or not trusted."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose scorer has started. Kept from revision to revision while it is wanted."""

    #: What makes it the same: bundle, digest, trusted keys.
    key: tuple[str, str, tuple[str, ...]]
    manifest: Manifest
    scorer: Scorer
    #: Held while a batch is in flight.
    turn: asyncio.Lock


async def load(variant: Variant, deployment: Deployment, *, open_scorer: OpenScorer, deadline_s: float) -> Loaded:
    """Open and start a variant's scorer. Raises BundleError or ScoringError; nothing stays running then."""
    bundle = Path(variant.bundle)
    manifest, digest = await asyncio.to_thread(read_manifest, bundle)
    if digest != variant.digest:
        raise BundleError(
            f"{bundle} has the digest {digest[:12]}… and revision {deployment.revision} wants {variant.digest[:12]}…: "
            "restore the bundle, or deploy the version again."
        )
    keys = deployment.trusted_keys
    scorer = await asyncio.to_thread(
        open_scorer, bundle, digest=variant.digest, trusted_keys=keys, deadline_s=deadline_s
    )
    try:
        await scorer.start()
    except BaseException:
        await scorer.close()
        raise
    return Loaded(key=key_of(variant, deployment), manifest=manifest, scorer=scorer, turn=asyncio.Lock())


def key_of(variant: Variant, deployment: Deployment) -> tuple[str, str, tuple[str, ...]]:
    """What must be equal for a scorer to be kept."""
    return variant.bundle, variant.digest, deployment.trusted_keys


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """A variant and the batches that wait for it."""

    variant: Variant
    loaded: Loaded
    batcher: Batcher

    @property
    def schema(self) -> Schema:
        """The fields that this variant reads."""
        return self.loaded.manifest.schema


class Active:
    """A revision that answers."""

    def __init__(
        self, deployment: Deployment, loaded: dict[int, Loaded], *, deadline_s: float, measures: Measures
    ) -> None:
        self.deployment = deployment
        self.router = Router(deployment)
        self.lanes = {
            variant.version: Lane(
                variant=variant,
                loaded=loaded[variant.version],
                batcher=Batcher(
                    loaded[variant.version].scorer,
                    turn=loaded[variant.version].turn,
                    deadline_s=deadline_s,
                    on_batch=measures.batch_rows.labels(str(variant.version)).observe,
                ),
            )
            for variant in deployment.variants
        }
        self.live = [self.lanes[variant.version] for variant in deployment.live]
        self.shadows = [self.lanes[variant.version] for variant in deployment.shadows]
        tasks = {(lane.loaded.manifest.task, lane.loaded.manifest.classes) for lane in self.live}
        if len(tasks) > 1:
            versions = [lane.variant.version for lane in self.live]
            raise DeploymentError(f"versions {versions} do not predict the same classes: deploy one of them alone.")
        self.schema = _union([lane.schema for lane in (*self.live, *self.shadows)])
        self._alike = len({msgspec.json.encode(lane.schema) for lane in self.lanes.values()}) == 1
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def manifest(self) -> Manifest:
        """The manifest of the oldest live version: task and classes are the same for all that are live."""
        return self.live[0].loaded.manifest

    def read(self, rows: Sequence[dict[str, Any]]) -> dict[int, Columns]:
        """The rows as each live version reads them. Raises RowsError unless every live version can read them all.

        Each version's own schema selects its fields. A field that none of the versions has is an error; one that
        only a shadow has may be missing: the shadow's score fails then, and says so.
        """
        if self._alike:
            columns = self.live[0].schema.validate(rows)
            return {lane.variant.version: columns for lane in self.live}
        known = set(self.schema.names)
        issues = {
            (number, name): Issue(row=number, field=name, reason="is not a field of any version that is deployed")
            for number, row in enumerate(rows)
            for name in sorted(row.keys() - known)
        }
        read = {}
        for lane in self.live:
            try:
                read[lane.variant.version] = lane.schema.validate(_projected(rows, lane.schema))
            except RowsError as error:
                issues.update({(issue.row, issue.field): issue for issue in error.issues})
        if issues:
            raise RowsError([issues[place] for place in sorted(issues)][:MAX_ISSUES])
        return read

    async def score_shadow(self, lane: Lane, rows: Sequence[dict[str, Any]], read: dict[int, Columns]) -> list[Scored]:
        """What a shadow makes of rows that were answered and ``read``; those that it cannot read have failed."""
        if self._alike:
            return await lane.batcher.score(next(iter(read.values())), len(rows))
        projected = _projected(rows, lane.schema)
        try:
            return await lane.batcher.score(lane.schema.validate(projected), len(rows))
        except RowsError as error:
            if len(rows) == 1:
                return [Scored("failed", None, str(error))]
        # Rare (the shadow reads other fields than the live versions), so simply: one row at a time.
        return [scored for row in projected for scored in await self.score_shadow(lane, [row], read)]

    def enter(self) -> None:
        """A request, or a shadow, needs this revision until it calls ``leave``."""
        self._in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        """It does not any more."""
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()

    async def drained(self) -> None:
        """Wait until no request and no shadow needs this revision."""
        await self._idle.wait()


def rows_of(columns: Columns, rows: Sequence[int]) -> Columns:
    """These rows of the columns, in the order given."""
    return take(columns, np.asarray(rows))


def _projected(rows: Sequence[dict[str, Any]], schema: Schema) -> list[dict[str, Any]]:
    names = schema.names
    return [{name: row[name] for name in names if name in row} for row in rows]


def _union(schemas: Sequence[Schema]) -> Schema:
    columns = {column.name: column for schema in reversed(schemas) for column in schema.columns}
    order = {column.name: None for schema in schemas for column in schema.columns}
    return Schema(columns=tuple(columns[name] for name in order))
