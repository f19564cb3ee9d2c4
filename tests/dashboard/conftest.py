"""A project that has lived, once for all tests that only read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import lived
import pytest
from shown import showing

from passerelle.project.settings import Project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A year until June: five versions, four trials, one of them running. Read only."""
    return lived.live(tmp_path_factory.mktemp("lived"))


@pytest.fixture(scope="session")
def url(project: Project) -> Iterator[str]:
    """Where the dashboard of that project answers."""
    with showing(project, now=lived.NOW) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    """Asks the dashboard of that project."""
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """A project to which nothing has happened."""
    return lived.scaffold(tmp_path / "bare")
