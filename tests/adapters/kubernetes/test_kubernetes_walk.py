"""Whoever applies is killed by SIGKILL, before and after questions to the cluster: applied again, the end is the same.

Each question of a creation, a change and a removal with PASSERELLE_SOAK, by the real kubectl, too; else a few.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kubernetes_case import QuickTarget, case, deployment, needs_kubectl
from kubernetes_place import Place

from passerelle.deployment.applying import apply_deployment
from passerelle.project.settings import Project

SOAK = bool(os.environ.get("PASSERELLE_SOAK"))
KILLED = -9
Walk = Callable[..., int]


@pytest.fixture
def walk(place: Place, tmp_path: Path) -> Iterator[Walk]:
    """Applies a revision in a process of its own; its exit code."""
    script = Path(__file__).with_name("kubernetes_walking.py")
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    asks, answers = process.stdin, process.stdout
    assert asks is not None
    assert answers is not None

    def run(**order: Any) -> int:
        asks.write(json.dumps(order | {"url": place.url, "folder": str(tmp_path)}) + "\n")
        asks.flush()
        return int(answers.readline())

    yield run
    asks.close()
    process.wait(30)
    answers.close()


def points(each: int, start: int) -> Iterator[tuple[int, str]]:
    """Before and after the questions, without end."""
    for number in count(start, each):
        yield number // 2 + 1, ("before", "after")[number % 2]


class Way(NamedTuple):
    """From which revisions to which (None: to nothing), in which form, by what."""

    before: tuple[int, ...]
    to: int | None
    form: str
    real: bool


WAYS = [
    pytest.param(
        Way(before, to, form, real),
        marks=[needs_kubectl] if real else [],
        id=f"{name}-{form}-{'kubectl' if real else 'quick'}",
    )
    for name, before, to in (("create", (), 1), ("change", (1,), 2), ("remove", (1, 2), None))
    for form in ("deployment", "kserve")
    for real in (False, True)
    if SOAK or not real or (name, form) == ("change", "deployment")
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_a_question_and_applied_again(
    way: Way, project: Project, place: Place, tmp_path: Path, walk: Walk
) -> None:
    before, to, form, real = way
    cases = case(project, place, tmp_path, form, made=QuickTarget)

    def apply(*revisions: int | None) -> None:
        for one in revisions:
            apply_deployment(cases.open(), None if one is None else deployment(one), "production")

    apply(*before, to)
    due = sorted(cases.there())
    deaths = 0
    each = 1 if SOAK else 11 if real else 5
    walked = points(each, len(before))
    for at, when in [(0, "half")] if to else []:
        apply(None, *before)
        assert walk(revision=to, at=at, when=when, form=form, real=real) == KILLED
        apply(to)
        assert sorted(cases.there()) == due
    for at, when in walked:
        apply(None)
        assert cases.there() == []
        apply(*before)
        ended = walk(revision=to, at=at, when=when, form=form, real=real)
        apply(to)
        assert sorted(cases.there()) == due, f"after a death {when} question {at}"
        if ended == 0:
            break
        assert ended == KILLED
        deaths += 1
    assert deaths >= 4 / each
    apply(None)
    assert cases.there() == []
