"""Recorded: the last delivery of a project, as events to ask and truths to tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.events import event_rows
from passerelle.bundle.keys import trusted
from passerelle.bundle.manifest import Manifest
from passerelle.bundle.verify import verify
from passerelle.data.columns import columns_of, row_ids
from passerelle.data.contract import load_contract
from passerelle.data.landing import table_of
from passerelle.data.rows import read_rows
from passerelle.data.table import read_conformed
from passerelle.errors import DataError
from passerelle.loop.replay import Asked, Told
from passerelle.loop.score import as_columns
from passerelle.project.settings import Project
from passerelle.registry.versions import Version
from passerelle.schema import Columns


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """The last delivery: rows of the main table, their truth, and what the endpoint is asked."""

    main: Columns
    manifest: Manifest
    inputs: Columns
    ids: list[str]
    asked: list[Asked]
    told: list[Told]


def split_deliveries(project: Project) -> tuple[list[Path], list[Path]]:
    """The deliveries to learn from, and those of the last period: files of one stamp (flights-2013-02) go together."""
    tables = (project.data.main, project.data.outcomes, *load_contract(project).tables)
    files = sorted((project.root / project.data.inbox).iterdir())
    stamps = {path: path.name.partition(".")[0].removeprefix(table_of(path, known=tables)) for path in files}
    last = sorted({stamps[path] for path in files if table_of(path, known=tables) == project.data.main})
    if len(last) < 2:  # noqa: PLR2004  (one to learn from, one to answer)
        raise DataError(
            f"a tour needs two deliveries of {project.data.main} in {project.data.inbox}, one to learn from and one "
            f"to answer; there are {len(last)}."
        )
    return [path for path in files if stamps[path] != last[-1]], [path for path in files if stamps[path] == last[-1]]


def read_period(project: Project, version: Version, files: list[Path]) -> Period:
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
    moments = _moments(main[project.task.time]) if project.task.time else [datetime.now(UTC)] * len(ids)
    asked = [
        Asked(at=moment - lead, id=id_, inputs=row)
        for moment, id_, row in zip(moments, ids, manifest.schema.rows(inputs), strict=True)
    ]
    known, values = _moments(truths["known_at"]), truths[project.task.target].tolist()
    told = [
        Told(known_at=at, id=id_, value=value)
        for at, id_, value in zip(known, row_ids(truths, project.task.key), values, strict=True)
    ]
    return Period(main=main, manifest=manifest, inputs=inputs, ids=ids, asked=asked, told=told)


def _joined(before: Columns, rows: Columns) -> Columns:
    return {name: np.concatenate([before[name], rows[name]]) for name in rows} if before else rows


def _moments(times: NDArray[Any]) -> list[datetime]:
    return [moment.replace(tzinfo=UTC) for moment in times.astype("datetime64[us]").astype(datetime)]
