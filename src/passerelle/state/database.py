"""The one database of a project: SQLite, ``<state folder>/state.db``, safe for several processes at once.

Write-ahead mode lets readers go on while one process writes; a writer takes the write lock as it begins, and waits
for the one before it, so that what it read is still true when it writes. With ``PASSERELLE_STATE_URL`` the same tables
are on a PostgreSQL server, and writers take turns there: see postgresql.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from passerelle.errors import StateError
from passerelle.state import postgresql, sharing, tables
from passerelle.state.lease import lease

FILE = "state.db"

_BUSY_MS = 30_000
_WRITE = "passerelle_write"
_FOLDER = "passerelle_folder"

#: How to come from one format to the next: the first makes format 1 out of nothing.
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (
    tables.metadata.create_all,  # makes what is not there, so it serves every format that only adds tables
    tables.metadata.create_all,
)


def open_state(folder: Path) -> sa.Engine:
    """Open the database of a state folder; make it, or bring it to this format, where needed.

    Raises StateError if the file is no database, if the server cannot be used, or if a newer Passerelle made it (it is
    then left as it is).
    """
    folder.mkdir(parents=True, exist_ok=True)
    url = postgresql.state_url()
    if url is not None:
        return _open_server(folder, url)
    path = folder / FILE
    # A connection per use: nothing is held open, so nothing is shared with a forked process or left to a finaliser.
    engine = sa.create_engine(sqlite_url(path), poolclass=NullPool, connect_args={"timeout": _BUSY_MS / 1000})
    engine = engine.execution_options(**{_FOLDER: folder})
    sa.event.listen(engine, "connect", _set_up)
    sa.event.listen(engine, "begin", _begin)
    try:
        if _format(engine, str(path)) < tables.FORMAT:
            with lease(folder, "migrate", wait_s=_BUSY_MS / 1000):
                _migrate(engine, str(path))
    except sa.exc.DatabaseError as error:
        raise StateError(
            f"{path} cannot be used as a database: {error.orig}. Free the disk or mend the rights; if the file is "
            "damaged, put back a copy of the folder from before."
        ) from error
    return engine


def sqlite_url(path: Path) -> str:
    """A database file's address, with what would be read as something else quoted.

    It names the driver: MLflow makes the folder of an address without one, and forgets that it is quoted.

    >>> sqlite_url(Path("/home/what?/state.db"))
    'sqlite+pysqlite:////home/what%3F/state.db'
    """
    return sa.URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that writes: it holds the write lock from its beginning, and is kept whole or not at all.

    Where the folder is shared, the files that it tells of are put up before it is kept. Raises StateError if another
    writer does not end in time, or if the server or a lease of this process's was lost: nothing is kept then.
    """
    options: dict[str, Any] = {_WRITE: True}
    server = engine.dialect.name == "postgresql"
    if server:
        options["isolation_level"] = "READ COMMITTED"
    folder = engine.get_execution_options()[_FOLDER]
    sharing.stage(folder)  # what is large, before anybody has to wait
    with engine.execution_options(**options).begin() as connection:
        if server:
            postgresql.take_turn(connection, folder, wait_s=_BUSY_MS / 1000)
        yield connection
        if server:
            postgresql.refuse_lost()
        sharing.put_up(folder)


def _open_server(folder: Path, url: sa.URL) -> sa.Engine:
    shown = url.render_as_string(hide_password=True)
    try:
        engine = postgresql.open_engine(folder, url).execution_options(**{_FOLDER: folder})
        if _format(engine, shown) < tables.FORMAT:
            with lease(folder, "migrate", wait_s=_BUSY_MS / 1000):
                _migrate(engine, shown)
    except sa.exc.DatabaseError as error:
        raise postgresql.unreachable(url, error) from error
    return engine


def _set_up(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # sqlite3 begins no transaction of its own; _begin does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _format(engine: sa.Engine, path: str) -> int:
    """The database's format; 0 for one without tables. A newer one is refused."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("meta"):
            return 0
        query = sa.select(tables.meta.c.value).where(tables.meta.c.name == "format")
        found = int(connection.execute(query).scalar_one())
    if found > tables.FORMAT:
        raise StateError(
            f"{path} was made by a newer Passerelle (its format is {found}; this one knows {tables.FORMAT}): "
            "upgrade Passerelle."
        )
    return found


def _migrate(engine: sa.Engine, path: str) -> None:
    start = _format(engine, path)  # again: another process may have done it while we waited
    if start == tables.FORMAT:
        return
    if engine.dialect.name == "sqlite":
        _to_write_ahead(engine, path)
    with writing(engine) as connection:
        for migrate in MIGRATIONS[start:]:
            migrate(connection)
        connection.execute(tables.meta.delete().where(tables.meta.c.name == "format"))
        connection.execute(tables.meta.insert().values(name="format", value=str(tables.FORMAT)))


def _to_write_ahead(engine: sa.Engine, path: str) -> None:
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        if driver is None:  # a pool that lost its connection; SQLAlchemy's type says that it may
            raise StateError(f"{path} was closed while it was being opened: try again.")
        connection.exec_driver_sql("ROLLBACK")  # the journal's mode changes outside a transaction only
        driver.execute("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("BEGIN")
