"""The state on a PostgreSQL server, for jobs that share no disk: ``PASSERELLE_STATE_URL``.

A schema for each project, named after it, holds the tables that SQLite would. Locks are PostgreSQL's advisory locks:
they belong to a connection, so they end with the process that holds it, however that ends. Leases need connections
that stay the same from statement to statement: a pooler in front works by session, not by transaction.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from passerelle.errors import StateError
from passerelle.names import missing_extra
from passerelle.project.settings import FILE

#: The variable that names the server: postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.
VARIABLE = "PASSERELLE_STATE_URL"

_SCHEME = "postgresql"
#: A machine that vanishes without a word is noticed, and its locks freed, after about half a minute.
_KEEPALIVES = {"idle": 15, "interval": 5, "count": 3}
_LOCK_NOT_AVAILABLE = "55P03"

#: Purpose → the connection that holds its lease, of this process; see refuse_lost.
_held: dict[str, sa.Connection] = {}


def state_url() -> sa.URL | None:
    """The server that the environment names; None: SQLite. Raises StateError for an address of anything else."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError as error:
        raise StateError(f"{VARIABLE} is no address: give postgresql+psycopg://USER@HOST/DATABASE.") from error
    if url.drivername.partition("+")[0] != _SCHEME:
        raise StateError(
            f"{VARIABLE} names a {url.drivername} database: give postgresql+psycopg://USER@HOST/DATABASE, or unset it "
            "for SQLite."
        )
    return url.set(drivername=f"{_SCHEME}+psycopg")


def schema_of(folder: Path) -> str:
    """The schema of a state folder: its project's name. A folder beside no settings has a schema of its own.

    Raises StateError if the settings say no name, or one that PostgreSQL keeps for itself.
    """
    settings = folder.resolve().parent / FILE
    try:
        name = tomllib.loads(settings.read_text(encoding="utf-8"))["project"]["name"]
    except FileNotFoundError:
        return f"passerelle_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise StateError(f"{settings} does not say [project] name, which names the state's schema.") from error
    if not isinstance(name, str) or name in {"public", "information_schema"} or name.startswith("pg_"):
        raise StateError(f"PostgreSQL keeps the name {name!r} for itself: give the project another.")
    return name


def open_engine(folder: Path, url: sa.URL) -> sa.Engine:
    """An engine whose tables are in the project's schema, which is made if it is new."""
    schema = schema_of(folder)
    engine = _engine(url, schema, isolation="REPEATABLE READ")  # a reader sees one moment, as with SQLite
    sa.event.listen(engine, "handle_error", _explain(url))
    with engine.connect() as connection:
        if schema not in sa.inspect(connection).get_schema_names():
            connection.rollback()
            with _locked(connection, f"{schema}/schema", wait_s=30):
                connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
                connection.commit()
    return engine


def take_turn(connection: sa.Connection, folder: Path, *, wait_s: float) -> None:
    """Wait for the writer before this one: its transaction holds the lock until it ends.

    Each statement after it sees what was committed before: the transaction must be READ COMMITTED.
    """
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(wait_s * 1000)}")
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key(f"{schema_of(folder)}/write")})


@contextmanager
def held(folder: Path, purpose: str, url: sa.URL, *, wait_s: float) -> Iterator[str | None]:
    """Hold the lock of a purpose, on every machine; yields None, or who holds it if it could not be had in time.

    Raises StateError if the connection, and so the lock, was lost while the block ran.
    """
    schema = schema_of(folder)
    engine = _engine(url, schema, isolation="AUTOCOMMIT", name=f"passerelle {os.getpid()} on {socket.gethostname()}")
    try:
        connection = engine.connect()
    except sa.exc.OperationalError as error:
        raise unreachable(url, error) from error
    with connection:
        key = _key(f"{schema}/lease/{purpose}")
        if not _try(connection, key, wait_s=wait_s):
            yield _holder(connection, key)
            return
        name = f"{schema}/{purpose}/{os.getpid()}"
        _held[name] = connection
        try:
            yield None
        finally:
            del _held[name]
        try:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
        except sa.exc.SQLAlchemyError as error:
            raise _lost(purpose) from error


def refuse_lost() -> None:
    """Raise StateError if a lease that this process holds was lost: whoever is about to keep something asks before."""
    for name, connection in list(_held.items()):
        _, purpose, process = name.rsplit("/", 2)
        if process != str(os.getpid()):
            continue  # a fork's: the connection is its parent's to use
        try:
            connection.execute(sa.text("SELECT 1"))
        except sa.exc.SQLAlchemyError as error:
            raise _lost(purpose) from error


def _lost(purpose: str) -> StateError:
    return StateError(
        f"the connection to PostgreSQL that held the lease {purpose!r} was lost: another process may have worked "
        "beside this one, so nothing more was kept. Look at what was made, then do it again."
    )


def unreachable(url: sa.URL, error: sa.exc.DBAPIError) -> StateError:
    """The error that says, without the password, that the server cannot be used."""
    shown = url.render_as_string(hide_password=True)
    return StateError(
        f"{shown} cannot be used as the state: {error.orig}. See {VARIABLE}, that the server runs, and that the user "
        "may create a schema there."
    )


def _explain(url: sa.URL) -> Callable[[sa.ExceptionContext], None]:
    """What to do next, where the server could not be reached, or another writer was too slow."""

    def explain(context: sa.ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if not isinstance(error, sa.exc.DBAPIError):
            return
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise StateError(
                "another process writes to the state, and has not ended in time: nothing was kept. Run it again when "
                "that one has ended; select * from pg_stat_activity says who it is."
            ) from error
        if context.connection is None:
            raise unreachable(url, error) from error
        if context.is_disconnect:
            raise StateError(
                f"the connection to PostgreSQL was lost ({str(error.orig).strip()}): what was being written is not "
                "kept, unless it was lost in the last moment. See passerelle timeline, and run it again."
            ) from error

    return explain


def _engine(url: sa.URL, schema: str, *, isolation: Any, name: str = "passerelle") -> sa.Engine:
    alive = {f"keepalives_{key}": value for key, value in _KEEPALIVES.items()}
    try:
        # A connection per use, as with SQLite.
        engine = sa.create_engine(
            url,
            poolclass=NullPool,
            isolation_level=isolation,
            connect_args={"application_name": name[:63], "connect_timeout": 10, **alive},
        )
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error

    def set_up(connection: Any, _record: Any) -> None:
        before, connection.autocommit = connection.autocommit, True
        connection.execute(f'SET search_path TO "{schema}"')
        for key, value in _KEEPALIVES.items():
            connection.execute(f"SET tcp_keepalives_{key} = {value}")  # the server's own half
        connection.autocommit = before

    sa.event.listen(engine, "connect", set_up)
    return engine


def _try(connection: sa.Connection, key: int, *, wait_s: float) -> bool:
    if wait_s <= 0:
        return bool(connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar_one())
    connection.exec_driver_sql(f"SET lock_timeout = {max(1, int(wait_s * 1000))}")
    try:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": key})
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        return False
    return True


@contextmanager
def _locked(connection: sa.Connection, name: str, *, wait_s: float) -> Iterator[None]:
    """Hold a lock for as long as a transaction."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(wait_s * 1000)}")
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _key(name)})
    yield


def _holder(connection: sa.Connection, key: int) -> str:
    """Who holds a lock: "4711 on runner-3"."""
    query = sa.text(
        "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' "
        "AND l.granted AND l.objsubid = 1 AND ((l.classid::bigint << 32) | l.objid::bigint) = :key "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    found = connection.execute(query, {"key": key}).scalars().first()
    return str(found).removeprefix("passerelle ") if found else "(just ending)"


def _key(name: str) -> int:
    """A lock's number, of 64 bits with a sign, as PostgreSQL counts them."""
    return int.from_bytes(hashlib.sha256(f"passerelle/{name}".encode()).digest()[:8], "big", signed=True)
