"""Recorded: a delivery of a project, as events to ask and truths to tell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerelle.bundle.events import event_rows
from passerelle.bundle.keys import trusted
from passerelle.bundle.manifest import Manifest
from passerelle.bundle.verify import verify
from passerelle.data.casting import cast, guess
from passerelle.data.columns import columns_of, row_ids
from passerelle.data.contract import load_contract
from passerelle.data.landing import table_of
from passerelle.data.reading import read_file
from passerelle.data.rows import read_rows
from passerelle.data.table import read_conformed
from passerelle.errors import DataError
from passerelle.loop.replay import Asked, Told
from passerelle.loop.score import as_columns
from passerelle.project.settings import Project
from passerelle.registry.versions import Version
from passerelle.schema import Column, Columns


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery: rows of the main table, their truth, and what the endpoint is asked."""

    main: Columns
    manifest: Manifest
    inputs: Columns
    ids: list[str]
    asked: list[Asked]
    told: list[Told]


def first_moment(project: Project, files: Sequence[Path]) -> datetime:
    """When the first event of a delivery is asked, by its main table's time column; no contract is needed yet.

    Raises DataError if the project has no time column, or it holds no moments.
    """
    time = project.task.time
    if time is None:
        raise DataError("a tour lives by the events' own time: name the main table's time column as task.time.")
    known = (project.data.main, project.data.outcomes)
    earliest = []
    for path in (one for one in files if table_of(one, known=known) == project.data.main):
        raw = read_file(path)
        values = raw.columns.get(time)
        kind = None if values is None else guess(values, text=raw.text)
        if values is None or kind not in ("timestamp", "date"):
            raise DataError(f"{path.name}: a tour needs moments or days in {time!r}, and finds {kind or 'none'}.")
        read = cast(values, Column(name=time, kind=kind), text=raw.text).values
        earliest.append(pc.min(read.cast(pa.timestamp("us", "UTC"))).as_py())
    if not earliest:
        raise DataError(f"none of {', '.join(path.name for path in files)} is of the table {project.data.main}.")
    moment: datetime = min(earliest)
    return moment - timedelta(hours=project.task.lead_hours)


def read_period(project: Project, version: Version, files: Sequence[Path]) -> Period:
    """A delivery that was not ingested, read by the contract, as the events a caller would send and what came true.

    The version's own ``events`` function joins the tables, those accepted before and those delivered with it.
    """
    contract = load_contract(project)
    tables = {
        name: as_columns(*read_conformed(project, contract, name))
        for name in contract.tables
        if name not in (project.data.main, project.data.outcomes)
    }
    for path in files:
        name = table_of(path, known=contract.tables)
        rows = columns_of(read_rows(path, contract.tables[name]), contract.tables[name].schema)
        before = tables[name][1] if name in tables else {}
        tables[name] = (contract.tables[name].schema, _joined(before, rows))
    _, main = tables[project.data.main]
    _, truths = tables.pop(project.data.outcomes)
    manifest = verify(version.path, digest=version.digest, trusted_keys=trusted(project.state)).manifest
    keys = trusted(project.state)
    inputs = event_rows(version.path, digest=version.digest, trusted_keys=keys, tables=tables, main=project.data.main)
    ids = row_ids(main, project.task.key)
    lead = timedelta(hours=project.task.lead_hours)
    moments = _moments(main[str(project.task.time)])
    asked = [
        Asked(at=moment - lead, id=id_, inputs=row)
        for moment, id_, row in zip(moments, ids, manifest.schema.rows(inputs), strict=True)
    ]
    known, values = _moments(truths["known_at"]), truths[project.task.target].tolist()
    told = [
        Told(known_at=at, id=id_, value=value)
        for at, id_, value in zip(known, row_ids(truths, project.task.key), values, strict=True)
    ]
    refuse_early(asked, told)
    return Period(main=main, manifest=manifest, inputs=inputs, ids=ids, asked=asked, told=told)


def refuse_early(asked: Sequence[Asked], told: Sequence[Told]) -> None:
    """Raise DataError if a truth is dated before its event is asked: nobody could have predicted it any more."""
    moments = {one.id: one.at for one in asked}
    early = [one for one in told if one.id in moments and one.known_at <= moments[one.id]]
    if early:
        raise DataError(
            f"{len(early):,} outcomes were known before their event is asked (the first: {early[0].id}, known at "
            f"{early[0].known_at:%Y-%m-%dT%H:%M:%SZ}, asked at {moments[early[0].id]:%Y-%m-%dT%H:%M:%SZ}): correct "
            "known_at, or raise task.lead_hours."
        )


def _joined(before: Columns, rows: Columns) -> Columns:
    return {name: np.concatenate([before[name], rows[name]]) for name in rows} if before else rows


def _moments(times: NDArray[Any]) -> list[datetime]:
    return [moment.replace(tzinfo=UTC) for moment in times.astype("datetime64[us]").astype(datetime)]
