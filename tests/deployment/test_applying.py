"""Applying: what is done in which order, and what differs from what was wanted is an error that says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from passerelle.adapters.local import LocalTarget
from passerelle.deployment.applying import apply_deployment, open_target
from passerelle.deployment.target import DriftError, Observed, Step, TargetError
from passerelle.errors import SettingsError
from passerelle.project.settings import Project, ProjectSection, Task
from passerelle.project.targets import Local
from passerelle.testing.targets import MemoryPlace, MemoryTarget, sample_deployment


def test_steps_are_heard_in_order() -> None:
    heard: list[tuple[int, int, str, str]] = []

    def hear(number: int, steps: int, step: Step) -> None:
        heard.append((number, steps, step.act, step.resource.kind))

    applied = apply_deployment(MemoryTarget(MemoryPlace()), sample_deployment(1), "production", hear)
    assert heard == [
        (1, 5, "create", "artefact"),
        (2, 5, "create", "config"),
        (3, 5, "create", "endpoint"),
        (4, 5, "wait", "endpoint"),
        (5, 5, "create", "alarm"),
    ]
    assert (applied.observed.state, applied.observed.revision) == ("serving", 1)
    assert [(step.act, step.resource.kind) for step in applied.plan.steps] == [one[2:] for one in heard]


def test_silent_roll_back_says_what_answers() -> None:
    place = MemoryPlace()
    apply_deployment(MemoryTarget(place), sample_deployment(1), "production")
    place.order(ends="rolled back")
    with pytest.raises(DriftError, match=r"revision 2 was applied, and revision 1 answers: the target rolled back"):
        apply_deployment(MemoryTarget(place), sample_deployment(2), "production")


def test_ignored_change_is_named() -> None:
    place = MemoryPlace()
    place.order(ignored=["alarm"])
    with pytest.raises(DriftError, match=re.escape("not there: create alarm trips-production-errors. The target")):
        apply_deployment(MemoryTarget(place), sample_deployment(1), "production")
    place.order(ignored=[])
    applied = apply_deployment(MemoryTarget(place), sample_deployment(1), "production")
    assert [step.resource.kind for step in applied.plan.steps] == ["alarm"]


def test_ignored_deletion_is_named() -> None:
    place = MemoryPlace()
    apply_deployment(MemoryTarget(place), sample_deployment(1), "production")

    class Deaf(MemoryTarget):
        def apply(self, step: Step) -> None:
            if step.resource.kind != "alarm":
                super().apply(step)

    with pytest.raises(DriftError, match=r"everything was deleted, and alarm trips-production-errors is there"):
        apply_deployment(Deaf(place), None, "production")


def test_change_that_does_not_end_is_told() -> None:
    class Impatient(MemoryTarget):
        def apply(self, step: Step) -> None:
            if step.act != "wait":
                super().apply(step)

    place = MemoryPlace()
    with pytest.raises(TargetError, match="the endpoint still changes though it was waited for"):
        apply_deployment(Impatient(place), sample_deployment(1), "production")
    applied = apply_deployment(MemoryTarget(place), sample_deployment(1), "production")
    assert [step.act for step in applied.plan.steps] == ["wait"]


def test_refused_step_leaves_those_before_it() -> None:
    place = MemoryPlace()
    place.order(refusals={"create config": "no quota is left"})
    with pytest.raises(TargetError, match="create config trips-production-000001: no quota is left"):
        apply_deployment(MemoryTarget(place), sample_deployment(1), "production")
    assert place.names() == ["artefact trips-production-000001"]
    assert apply_deployment(MemoryTarget(place), sample_deployment(1), "production").observed.revision == 1


def test_settings_that_change_are_no_drift() -> None:
    place = MemoryPlace()
    apply_deployment(MemoryTarget(place), sample_deployment(1), "production")
    applied = apply_deployment(MemoryTarget(place, error_share=0.02), sample_deployment(1), "production")
    [step] = applied.plan.steps
    assert (step.act, step.resource.settings["error_share"]) == ("change", 0.02)
    assert (step.before or {})["error_share"] == 0.01


@pytest.fixture
def project(tmp_path: Path) -> Project:
    task = Task(kind="binary", target="late", key=("id",))
    return Project(project=ProjectSection(name="trips"), task=task, root=tmp_path, targets={"here": Local()})


def test_target_is_opened_by_name(project: Project) -> None:
    target = open_target(project, "here")
    assert isinstance(target, LocalTarget)
    assert target.observe("production") == Observed(state="absent")


def test_unknown_target_is_refused_with_those_there_are(project: Project) -> None:
    with pytest.raises(SettingsError, match="no target 'there': the targets are here"):
        open_target(project, "there")
