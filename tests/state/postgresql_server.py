"""A PostgreSQL server of one's own, on 127.0.0.1: started for the tests that need one, gone after them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

#: What a machine without it is told.
ABSENT = "PostgreSQL's initdb and postgres are not installed: make test-system"


def find_binaries() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps them off the path."""
    folders = [Path(one).resolve().parent for one in [shutil.which("initdb"), shutil.which("postgres")] if one]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in folders if (one / "initdb").exists() and (one / "postgres").exists()), None)


@contextmanager
def running_server() -> Iterator[str]:
    """A server while the block runs; its address. It refuses to run as root, so root hands it to another user."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(ABSENT)
    user = None
    if os.geteuid() == 0:
        known = {one.pw_name for one in pwd.getpwall()}
        user = "postgres" if "postgres" in known else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="passerelle-postgresql-"))
    if user is not None:
        shutil.chown(folder, user)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = folder / "data"
    # Not C's order of letters: the state must sort by itself.
    made = [binaries / "initdb", "-D", data, "-U", "passerelle", "-A", "trust", "-N", "-E", "UTF8"]
    made += ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
    subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder)
    settings = {"fsync": "off", "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [binaries / "postgres", "-D", data, *options], stdout=log, stderr=log, user=user, cwd=folder
        ) as server,
    ):
        try:
            _wait(f"postgresql://passerelle@127.0.0.1:{port}/postgres", server)
            yield f"postgresql+psycopg://passerelle@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # waits for no client
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
    shutil.rmtree(folder, ignore_errors=True)


def drop_schemas(address: str) -> None:
    """Forget every project that a test has kept there."""
    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as connection:
        query = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        for (name,) in connection.execute(query).fetchall():
            if name != "public":
                connection.execute(f'DROP SCHEMA "{name}" CASCADE')


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(address, connect_timeout=2).close()
        except psycopg.OperationalError:
            if time.monotonic() > until or server.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return
