"""Every test of the state runs on SQLite and on a PostgreSQL server, unless it asks for one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from postgresql_server import drop_schemas, running_server

from passerelle.state.postgresql import VARIABLE


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server's address. Every test's folder has a schema of its own there."""
    with running_server() as address:
        yield address


@pytest.fixture
def sqlite() -> None:
    """Asked for by the tests that are of SQLite alone."""


@pytest.fixture
def postgresql() -> None:
    """Asked for by the tests that are of PostgreSQL alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """On which databases a test runs."""
    if "database" in metafunc.fixturenames:
        asked = [name for name in ("sqlite", "postgresql") if name in metafunc.fixturenames]
        metafunc.parametrize("database", asked or ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database of the test and of the processes that it starts."""
    if request.param == "postgresql":
        address = request.getfixturevalue("server")
        drop_schemas(address)
        monkeypatch.setenv(VARIABLE, address)
    elif VARIABLE in os.environ:
        monkeypatch.delenv(VARIABLE)
