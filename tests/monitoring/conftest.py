"""What an alert lives through in its state is tried on both databases: ask for ``database``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql_server import drop_schemas, running_server

from passerelle.state.postgresql import VARIABLE


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server's address."""
    with running_server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The database of the test and of the processes that it starts: empty."""
    if request.param == "postgresql":
        address = request.getfixturevalue("server")
        drop_schemas(address)
        monkeypatch.setenv(VARIABLE, address)
        yield
        assert list(tmp_path.rglob("state.db*")) == [], "a part of it was in SQLite"
    else:
        monkeypatch.delenv(VARIABLE, raising=False)
        yield
