"""Projects of the loop that have lived a while, made once and copied for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from living import A_DAY, Stage, Take, answer_day, deliver, make_project

from passerelle.bundle.keys import own_key
from passerelle.loop.workflows import open_loop
from passerelle.project.settings import load_project


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, datetime]]]:
    """delivered: version 1 answers, and the next week's data wait. tried: one tick before the verdict on version 2."""
    # Characters that a URI or a pattern would read as something else: whatever the loop does it does here.
    folder = tmp_path_factory.mktemp("stages") / "version=9, à 100 %, #1?"
    folder.mkdir()
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
    project = make_project(folder / "orders")
    kept: dict[str, tuple[Path, datetime]] = {}

    def keep(name: str, now: datetime) -> None:
        kept[name] = (folder / name, now)
        shutil.copytree(project.root, folder / name)

    with open_loop(project, key=own_key()) as loop:
        loop.tick(deliver(project, 0))
    now = deliver(project, 1)
    inbox = project.root / project.data.inbox
    (inbox / "outcomes-bad.csv").write_text("order,late,known_at\n1-1,perhaps,2026-01-19T00:00:00Z\n")
    keep("delivered", now)
    with open_loop(project, key=own_key()) as loop:
        loop.tick(now)
        day = now.replace(hour=0)
        for _ in range(6):
            answer_day(project, day, challenger=0.25)
            day += A_DAY
            loop.tick(day + timedelta(hours=13))
    answer_day(project, day, challenger=0.25, missing=1)
    keep("tried", day + A_DAY + timedelta(hours=13))
    yield kept
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before


@pytest.fixture
def take(stages: dict[str, tuple[Path, datetime]], tmp_path: Path) -> Take:
    """A copy of a stage's project, and the moment of its next tick."""

    def copy(name: str) -> Stage:
        source, now = stages[name]
        target = tmp_path / f"{name}, à 100 %, #{len(list(tmp_path.iterdir()))}?"
        shutil.copytree(source, target)
        return load_project(target / "passerelle.toml"), now

    return copy
