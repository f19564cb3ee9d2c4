"""The journey at real clouds: trained by a job, deployed, asked, cleared away in any case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from account import clear, mark, new_name, project_in, read_account
from living import deliver
from steps import run
from test_clouds import answers_by, golden_rows, look

from passerelle.project.settings import Project
from passerelle.project.targets import SageMaker


@pytest.fixture
def project(name: str, pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[Project]:
    """A project with a name of its own; nothing of it is left, however the test ends. The user's own key signs."""
    target = read_account(pytestconfig.getoption("--live-settings")).targets[name]
    made = project_in(tmp_path / "orders", new_name(), target)
    mark(made)
    try:
        yield made
    finally:
        clear(made)


def test_the_journey_at_a_real_cloud(project: Project) -> None:
    look(project, deliver(project, 0))
    assert answers_by(project) == 1
    rows, expected = golden_rows(project)
    served = asked(project, rows)
    if served is not None:
        assert np.abs(np.array([one["probability"] for one in served]) - expected).max() <= 1e-12
    run("deploy", "1", cwd=project.root)  # what is there already: found, and not made again
    assert answers_by(project) == 1
    assert "revision 1" in run("target", "status", cwd=project.root)
    run("target", "remove", "cloud", "--yes", cwd=project.root)


def asked(project: Project, rows: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The endpoint's answers, by the cloud's own client; None: this suite has no client of that cloud yet."""
    settings = project.targets["cloud"]
    if not isinstance(settings, SageMaker):
        return None
    import boto3

    client = boto3.client("sagemaker-runtime", region_name=settings.region)
    body = json.dumps({"instances": rows})
    answer = client.invoke_endpoint(
        EndpointName=f"{project.name}-{settings.environment}", ContentType="application/json", Body=body
    )
    found: list[dict[str, Any]] = json.loads(answer["Body"].read())["predictions"]
    return found
