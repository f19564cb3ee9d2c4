"""The tables of the one database, and the type in which moments are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from passerelle.errors import StateError

#: Raised by one with every change of the tables below; see database.MIGRATIONS.
FORMAT = 2

_WIDTH = "%Y-%m-%dT%H:%M:%S.%fZ"


class Moment(sa.TypeDecorator[datetime]):
    """An aware moment, kept as text of one width in UTC: it sorts, and a person can read it."""

    impl = sa.String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002  (its caller is SQLAlchemy)
        """Refuse a moment without its offset; write it in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise StateError(f"{value!r} has no offset from UTC: moments are passed aware.")
        return value.astimezone(UTC).strftime(_WIDTH).rjust(27, "0")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002  (its caller is SQLAlchemy)
        """Read it back, aware and in UTC."""
        return None if value is None else datetime.fromisoformat(value)


#: Text that sorts by its code points everywhere, as it does in SQLite.
Text = sa.String().with_variant(sa.String(collation="C"), "postgresql")

metadata = sa.MetaData()

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("value", Text, nullable=False),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    #: landing (half way: to be finished), accepted or quarantined.
    sa.Column("status", Text, nullable=False),
    #: Table → rows.
    sa.Column("rows", sa.JSON, nullable=False),
    #: Why it was quarantined, a sentence per problem.
    sa.Column("problems", sa.JSON, nullable=False),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("delivery", sa.ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("table", Text, primary_key=True),
    sa.Column("sha256", Text, primary_key=True),
    sa.Column("name", Text, nullable=False),
    sa.Index("files_by_content", "sha256", "table"),
)

#: Which version of each Delta table holds what has been accepted, and nothing of a batch that is still landing.
landed = sa.Table(
    "landed",
    metadata,
    sa.Column("table", Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("key", Text, primary_key=True),
    sa.Column("status", Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("finished_at", Moment),
    sa.Column("details", sa.JSON, nullable=False),
)

timeline = sa.Table(
    "timeline",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("kind", Text, nullable=False, index=True),
    sa.Column("subject", Text, nullable=False),
    sa.Column("sentence", Text, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Index("timeline_by_time", "at", "id"),
)

#: From here on: format 2. ``value`` holds the fields of the room's own Struct, as JSON.
trials = sa.Table(
    "trials",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("environment", Text, nullable=False),
    sa.Column("challenger", sa.Integer, nullable=False),
    #: running, decided (its verdict is not executed yet) or ended.
    sa.Column("status", Text, nullable=False),
    sa.Column("started_at", Moment, nullable=False),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Index("trials_by_time", "environment", "started_at"),
)

blocks = sa.Table(
    "blocks",
    metadata,
    sa.Column("trial", sa.ForeignKey("trials.id"), primary_key=True),
    sa.Column("start", Moment, primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)

#: What monitoring has measured of an environment, day by day (the moment a day begins) and subject by subject.
windows = sa.Table(
    "windows",
    metadata,
    sa.Column("environment", Text, primary_key=True),
    sa.Column("watch", Text, primary_key=True),
    sa.Column("start", Moment, primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", Text, primary_key=True),
    sa.Column("environment", Text, nullable=False),
    sa.Column("watch", Text, nullable=False),
    sa.Column("level", Text, nullable=False),
    sa.Column("opened_at", Moment, nullable=False),
    #: Not set while it is open.
    sa.Column("closed_at", Moment),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Index("alerts_by_time", "environment", "opened_at"),
)

#: Messages to channels: written with what they tell of, sent later, once; see monitoring.channels.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", Text, primary_key=True),
    #: When it was put here, or tried last.
    sa.Column("at", Moment, nullable=False),
    sa.Column("channel", Text, nullable=False),
    sa.Column("title", Text, nullable=False),
    sa.Column("body", Text, nullable=False),
    #: Not set until the channel has accepted it.
    sa.Column("sent_at", Moment),
    sa.Column("tries", sa.Integer, nullable=False),
    #: What the channel said at the last try that failed.
    sa.Column("problem", Text),
)
