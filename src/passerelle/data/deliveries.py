"""Deliveries as the state database keeps them: what came, and what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import sqlalchemy as sa

from passerelle.state import tables


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was delivered, and what became of it."""

    #: Made of the content: the same files for the same tables have the same id.
    id: str
    at: datetime
    status: Literal["landing", "accepted", "quarantined"]
    #: The names of the files.
    files: tuple[str, ...]
    #: Table → rows.
    rows: dict[str, int]
    #: Why it was quarantined, a sentence per problem.
    problems: tuple[str, ...] = ()
    #: True if it had been accepted before, and nothing was done.
    repeated: bool = False
    #: The report of a quarantined batch.
    report: str | None = None

    @property
    def sentence(self) -> str:
        """What became of it, for people."""
        names = ", ".join(self.files)
        if self.repeated:
            return f"{names} was accepted on {self.at:%Y-%m-%d %H:%M} UTC already: nothing was done."
        if self.status == "quarantined":
            more = f" and {len(self.problems) - 1} more" if len(self.problems) > 1 else ""
            return f"{names} was put aside: {self.problems[0]}{more}; see {self.report}"
        rows = " and ".join(f"{count:,} rows of {table}" for table, count in self.rows.items())
        return f"{names}: {rows}."


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A delivered file, in its copy: nothing that happens to the original changes what is checked and kept."""

    path: Path
    name: str
    table: str
    sha256: str


def delivery_id(files: Sequence[File]) -> str:
    """The id of a batch: a digest of its files' content and tables."""
    parts = sorted(f"{file.table}:{file.sha256}" for file in files)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(connection: sa.Connection, delivery: str) -> Delivery | None:
    """The delivery of this id; None if there is none."""
    query = sa.select(tables.deliveries).where(tables.deliveries.c.id == delivery)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    query = sa.select(tables.files.c.name).where(tables.files.c.delivery == delivery).order_by(tables.files.c.name)
    return Delivery(
        id=row["id"],
        at=row["at"],
        status=row["status"],
        files=tuple(connection.execute(query).scalars()),
        rows=row["rows"],
        problems=tuple(row["problems"]),
    )


def accepted_with(connection: sa.Connection, file: File) -> str | None:
    """The id of the accepted delivery that brought this content to this table; None if none did."""
    query = (
        sa.select(tables.files.c.delivery)
        .join(tables.deliveries, tables.deliveries.c.id == tables.files.c.delivery)
        .where(tables.files.c.sha256 == file.sha256, tables.files.c.table == file.table)
        .where(tables.deliveries.c.status == "accepted")
    )
    found = connection.execute(query).scalars().first()
    return None if found is None else str(found)


def keep(connection: sa.Connection, delivery: Delivery, files: Sequence[File]) -> None:
    """Write a delivery, over what was known of it."""
    connection.execute(tables.deliveries.delete().where(tables.deliveries.c.id == delivery.id))
    connection.execute(
        tables.deliveries.insert().values(
            id=delivery.id,
            at=delivery.at,
            status=delivery.status,
            rows=delivery.rows,
            problems=list(delivery.problems),
        )
    )
    for file in files:
        connection.execute(
            tables.files.insert().values(delivery=delivery.id, table=file.table, sha256=file.sha256, name=file.name)
        )


def seen(connection: sa.Connection) -> dict[str, set[str] | None]:
    """The digest of each file that came → the tables that it was put aside for; None once it was accepted."""
    query = sa.select(tables.files.c.sha256, tables.files.c.table, tables.deliveries.c.status).join(
        tables.deliveries, tables.deliveries.c.id == tables.files.c.delivery
    )
    found: dict[str, set[str] | None] = {}
    for digest, table, status in connection.execute(query.where(tables.deliveries.c.status != "landing")):
        aside = found.setdefault(digest, set())
        if status == "accepted":
            found[digest] = None
        elif aside is not None:
            aside.add(table)
    return found


def accepted_rows(connection: sa.Connection) -> list[tuple[datetime, dict[str, int]]]:
    """When each accepted delivery came, and its rows by table."""
    query = sa.select(tables.deliveries.c.at, tables.deliveries.c.rows).where(tables.deliveries.c.status == "accepted")
    return [(row.at, row.rows) for row in connection.execute(query)]


def settle(connection: sa.Connection) -> list[str]:
    """Forget the quarantined deliveries whose every file was accepted since, for another table; their ids.

    A file that was put aside for its name alone waits no more once it is accepted under the right one.
    """
    accepted = {digest for digest, aside in seen(connection).items() if aside is None}
    query = sa.select(tables.files.c.delivery, tables.files.c.sha256).join(
        tables.deliveries, tables.deliveries.c.id == tables.files.c.delivery
    )
    held: dict[str, set[str]] = {}
    for delivery, digest in connection.execute(query.where(tables.deliveries.c.status == "quarantined")):
        held.setdefault(delivery, set()).add(digest)
    done = [delivery for delivery, digests in held.items() if digests <= accepted]
    for table, column in ((tables.files, tables.files.c.delivery), (tables.deliveries, tables.deliveries.c.id)):
        connection.execute(table.delete().where(column.in_(done)))
    return done


def landing(connection: sa.Connection) -> list[str]:
    """The ids of the deliveries that were left half way, oldest first."""
    query = sa.select(tables.deliveries.c.id).where(tables.deliveries.c.status == "landing")
    return list(connection.execute(query.order_by(tables.deliveries.c.at, tables.deliveries.c.id)).scalars())
