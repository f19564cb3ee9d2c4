"""Plan: the steps bring what is there to what is wanted; what somebody changed by hand is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.deployment.plan import mark, refuse_drift, refuse_trial, steps
from passerelle.deployment.target import DriftError, PlanError, Resource, Step
from passerelle.testing.targets import sample_deployment

KINDS = ["artefact", "config", "endpoint"]
RESOURCES = st.lists(
    st.builds(
        Resource,
        kind=st.sampled_from(KINDS),
        name=st.sampled_from("abc"),
        settings=st.fixed_dictionaries({"machines": st.integers(0, 2)}),
    ),
    unique_by=lambda one: (one.kind, one.name),
    max_size=6,
)


def taken(there: list[Resource], made: tuple[Step, ...]) -> dict[tuple[str, str], dict[str, Any]]:
    """What is there after the steps, each of which must be possible."""
    found = {(one.kind, one.name): one.settings for one in there}
    for step in made:
        key = (step.resource.kind, step.resource.name)
        if step.act == "create":
            assert key not in found
        else:
            assert key in found
        if step.act in ("change", "delete"):
            assert step.before == found[key]
        if step.act == "delete":
            del found[key]
        elif step.act != "wait":
            found[key] = step.resource.settings
    return found


@given(wanted=RESOURCES, there=RESOURCES, kept=st.sets(st.sampled_from("abc")), changing=st.booleans())
def test_steps_lead_to_what_is_wanted(
    wanted: list[Resource],
    there: list[Resource],
    kept: set[str],
    changing: bool,  # noqa: FBT001  (drawn)
) -> None:
    made = steps(wanted, there, keep=lambda one: one.name in kept, waits=["endpoint"], changing=changing)
    due = {(one.kind, one.name): one.settings for one in there if one.name in kept}
    due |= {(one.kind, one.name): one.settings for one in wanted}
    assert taken(there, made) == due
    acts = [step.act for step in made]
    if "delete" in acts:
        after = acts[acts.index("delete") :]
        assert set(after) <= {"delete", "wait"}  # nothing is deleted before all else stands
    for number, step in enumerate(made):
        if step.resource.kind == "endpoint" and step.act in ("create", "change"):
            assert (made[number + 1].act, made[number + 1].resource.name) == ("wait", step.resource.name)


def test_what_still_changes_is_waited_for_first() -> None:
    old = Resource(kind="endpoint", name="a", settings={"machines": 1})
    new = Resource(kind="endpoint", name="a", settings={"machines": 2})
    for wanted, acts in (([old], ["wait"]), ([new], ["wait", "change", "wait"]), ([], ["wait", "delete"])):
        assert [step.act for step in steps(wanted, [old], waits=["endpoint"], changing=True)] == acts


def asked(machines: int, *, mark_of: int | None = None) -> Resource:
    marked = {"machines": machines if mark_of is None else mark_of}
    return Resource(kind="endpoint", name="a", settings={"machines": machines, "asked": mark(marked)})


def test_change_by_hand_is_told_by_its_mark() -> None:
    by_hand = asked(3, mark_of=1)
    with pytest.raises(DriftError, match=r"endpoint a was changed by hand: machines is 3, not 1\."):
        refuse_drift([asked(1)], [by_hand], drift="refuse")
    refuse_drift([asked(1)], [by_hand], drift="restore")
    refuse_drift([asked(2)], [asked(1)], drift="refuse")  # the settings want more: not by hand
    refuse_drift([asked(1)], [asked(1)], drift="refuse")
    refuse_drift([asked(1)], [Resource(kind="endpoint", name="a", settings={"machines": 9})], drift="refuse")


def test_change_by_hand_is_told_whatever_is_wanted_now() -> None:
    by_hand = asked(3, mark_of=1)
    with pytest.raises(DriftError, match=r"endpoint a was changed by hand: machines is 3, not 2\."):
        refuse_drift([asked(2)], [by_hand], drift="refuse")
    with pytest.raises(DriftError, match=r"endpoint a was changed by hand: it is \{'machines': 3\}\."):
        refuse_drift([], [by_hand], drift="refuse")
    refuse_drift([asked(3)], [by_hand], drift="refuse")  # what somebody's hand did is what is wanted now
    refuse_drift([], [asked(3)], drift="refuse")
    # Another version of Passerelle set other settings: its mark tells nothing of what is there.
    older = Resource(kind="endpoint", name="a", settings={"machines": 3, "asked": mark({"machines": 3, "zone": 1})})
    refuse_drift([asked(2)], [older], drift="refuse")


def test_trial_on_the_platforms_weights_is_refused() -> None:
    trial = sample_deployment(1, trial="production-2-1")
    with pytest.raises(PlanError, match=r"trial production-2-1 .*\(rule trial-needs-container\)"):
        refuse_trial(trial, "platform")
    refuse_trial(trial, "container")
    refuse_trial(sample_deployment(1), "platform")
