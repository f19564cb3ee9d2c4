"""The project of the notebook's tests, as a fixture."""

from pathlib import Path

import pytest
from trips_project import MakeProject, project_maker


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """A project with a notebook of these cells, and the folder of a run with its handout."""
    return project_maker(tmp_path)
