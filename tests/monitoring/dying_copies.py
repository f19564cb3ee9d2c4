"""A copy of a project for each death, its state too, wherever that is kept."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psycopg
import sqlalchemy as sa

from passerelle.state.postgresql import VARIABLE


def copy_project(source: Path, root: Path) -> None:
    """Copy the project; on PostgreSQL its database too, and name the copy to whoever is started from now on."""
    shutil.copytree(source, root)
    if VARIABLE in os.environ:
        copy = f"dead_{root.name}"
        with _connected() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{copy}"')
            connection.execute(f'CREATE DATABASE "{copy}" TEMPLATE postgres')
        os.environ[VARIABLE] = (
            sa.make_url(os.environ[VARIABLE]).set(database=copy).render_as_string(hide_password=False)
        )


def wait_until_dead() -> None:
    """Until the server has noticed who was killed, and freed their locks: at once, but not in no time."""
    if VARIABLE in os.environ:
        name = sa.make_url(os.environ[VARIABLE]).database
        until = time.monotonic() + 30
        with _connected() as connection:
            while connection.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [name]).fetchone():
                assert time.monotonic() < until
                time.sleep(0.005)


def _connected() -> psycopg.Connection:
    url = sa.make_url(os.environ[VARIABLE]).set(drivername="postgresql", database="template1")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)
