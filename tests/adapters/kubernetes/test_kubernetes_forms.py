"""Another form: what the former one made is found and goes when the new one answers; a cluster without KServe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_case import QuickTarget, case, deployment, needs_kubectl, target
from kubernetes_place import Place

from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import Step, TargetError
from passerelle.project.settings import Project
from passerelle.project.targets import Scaling

KINDS = {"deployment": {"Deployment", "Service", "HorizontalPodAutoscaler"}, "kserve": {"InferenceService"}}
SOAK = bool(os.environ.get("PASSERELLE_SOAK"))
SCALED = Scaling(maximum=2)
FORMS = ("deployment", "kserve")


def other(form: str) -> str:
    return FORMS[form == "deployment"]


def kinds(place: Place) -> set[str]:
    return {kind for kind, _ in place.objects}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("revision", [1, 2])
def test_another_form_takes_over_and_leaves_nothing(
    form: str, revision: int, project: Project, place: Place, tmp_path: Path
) -> None:
    def apply(form: str, number: int | None) -> Any:
        one = target(project, place, tmp_path, made=QuickTarget, form=form, scaling=SCALED)
        return apply_deployment(one, None if number is None else deployment(number), "production")

    apply(other(form), 1)
    assert kinds(place) == KINDS[other(form)]
    done = apply(form, revision)
    assert (done.observed.state, done.observed.revision) == ("serving", revision)
    assert kinds(place) == KINDS[form]
    acts = [
        (step.act, step.resource.kind in KINDS[form]) for step in done.plan.steps if step.resource.kind != "packages"
    ]
    assert acts.index(("wait", True)) < acts.index(("delete", False)), "the old one answers until the new one does"
    apply(other(form), None)
    assert kinds(place) == set()


@pytest.mark.parametrize("form", FORMS)
def test_a_change_of_form_that_was_cut_or_fails_goes_on(
    form: str, project: Project, place: Place, tmp_path: Path
) -> None:
    """At each step; and the one before still answers, as is said."""
    old = case(project, place, tmp_path, other(form), made=QuickTarget)
    new = case(project, place, tmp_path, form, made=QuickTarget)
    for fails in (False, True):
        for taken in range(1, 6) if SOAK else (2, 4 - fails):
            apply_deployment(old.open(), deployment(1), "production")
            place.fails = fails
            one = new.open()
            steps = one.plan(deployment(2), one.observe("production")).steps
            for step in cut(steps, taken):
                if step.act == "wait" and fails:
                    with pytest.raises(TargetError, match="as you ordered"):
                        one.apply(step)
                    break
                one.apply(step)
            if kinds(place) >= KINDS[form] and taken < 3:
                assert new.open().observe("production").revision == 1
            place.fails = False
            if fails and taken == 2:  # it was begun, and is waited for
                with pytest.raises(TargetError, match="as you ordered"):
                    apply_deployment(new.open(), deployment(2), "production")
            apply_deployment(new.open(), deployment(2), "production")
            assert kinds(place) == KINDS[form] - {"HorizontalPodAutoscaler"}
            apply_deployment(new.open(), None, "production")
            assert new.there() == []


def cut(steps: tuple[Step, ...], count: int) -> Iterator[Step]:
    yield from steps[:count]


@needs_kubectl
def test_a_cluster_without_kserve(project: Project, place: Place, tmp_path: Path) -> None:
    """By the real kubectl, which does not know the kind."""
    place.kserve = False
    cases = case(project, place, tmp_path, "deployment")
    assert apply_deployment(cases.open(), deployment(1), "production").observed.revision == 1
    with pytest.raises(TargetError, match=r"resource type \"inferenceservices\".*say form = \"deployment\""):
        target(project, place, tmp_path, form="kserve").observe("production")
    apply_deployment(cases.open(), None, "production")
    assert cases.there() == []
