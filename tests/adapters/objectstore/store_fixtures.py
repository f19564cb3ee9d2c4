"""Fixtures of the object stores; a test file takes them by ``pytest_plugins = ["store_fixtures"]``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from stores import BUCKET, STORES, running


@pytest.fixture(scope="module", params=STORES)
def cloud(request: pytest.FixtureRequest) -> Iterator[str]:
    """A store's scheme; while the fixture lives, its variables are this process's."""
    with running(request.param) as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield request.param


@pytest.fixture
def address(cloud: str, request: pytest.FixtureRequest) -> str:
    """An address in a store that no other test writes to."""
    return f"{cloud}://{BUCKET}/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
