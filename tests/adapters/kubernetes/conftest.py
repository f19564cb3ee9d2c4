"""A server for kubectl, and a project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes_place import Place, running

from passerelle.project.settings import Project, load_project


@pytest.fixture
def place() -> Iterator[Place]:
    with running() as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "passerelle.toml").write_text(
        '[project]\nname = "trips"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
    )
    return load_project(tmp_path / "passerelle.toml")
