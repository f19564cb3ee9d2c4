"""A project that has lived, once for all tests that only read it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import large
import lived
import pytest
import tried
from shown import showing

from passerelle.ledger.storage import ledger_folder
from passerelle.project.settings import FILE, Project, load_project


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


@pytest.fixture(scope="session")
def answered(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """That project, with predictions of both versions and outcomes of twelve days in its ledger. Read only."""
    root = tmp_path_factory.mktemp("answered") / "project"
    shutil.copytree(project.root, root)
    copy = load_project(root / FILE)
    folder = ledger_folder(copy.state, "production")
    large.fill(
        folder,
        first=large.FIRST,
        days=large.DAYS,
        rows=large.ROWS,
        horizon_hours=36,
        trial="production-5-8",
        versions=[4, 5],
    )
    return copy


@pytest.fixture(scope="session")
def tried_projects(tmp_path_factory: pytest.TempPathFactory) -> dict[tried.Standing, Project]:
    """A project for each standing of a split. Read only."""
    root = tmp_path_factory.mktemp("tried")
    first = tried.begun(root / "first")
    return {standing: tried.tried(root / standing, standing, first=first) for standing in tried.STANDINGS}


@pytest.fixture(scope="session")
def trials_of(tried_projects: dict[tried.Standing, Project]) -> Iterator[dict[tried.Standing, str]]:
    """Where the dashboards of three of them answer."""
    with contextlib.ExitStack() as stack:
        yield {
            standing: stack.enter_context(showing(tried_projects[standing], now=tried.NOW))
            for standing in ("running", "BROKEN", "INVALID")
        }


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """A project to which nothing has happened."""
    return lived.scaffold(tmp_path / "bare")
