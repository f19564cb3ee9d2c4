"""Plan: what is wanted and what is there → steps; pure, and the same for every target.

A target says what it wants as resources, in the order in which they are made. What is wanted and not there is created,
what differs is changed, and what is there and not wanted is deleted, last made first, when all else stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import msgspec

from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import DriftError, PlanError, Resource, Step


def steps(
    wanted: Sequence[Resource],
    there: Sequence[Resource],
    *,
    keep: Callable[[Resource], bool] = lambda _: False,
    waits: Collection[str] = (),
    changing: bool = False,
) -> tuple[Step, ...]:
    """The steps from ``there`` to ``wanted``.

    ``keep``: what is there and may stay although it is not wanted, as the revision before, to roll back to. After a
    resource whose kind is in ``waits`` was created or changed, a step waits until it is ready. ``changing``: what is in
    ``waits`` and there is not ready yet, since whoever changed it died: it is waited for first, wanted or not.

    >>> old, new = Resource(kind="config", name="r1"), Resource(kind="config", name="r2")
    >>> [(step.act, step.resource.name) for step in steps([new], [old])]
    [('create', 'r2'), ('delete', 'r1')]
    """
    found = {(one.kind, one.name): one for one in there}
    made: list[Step] = []
    for resource in wanted:
        before = found.get((resource.kind, resource.name))
        if before is not None and changing and resource.kind in waits:
            made.append(_wait(resource))
        if before is None:
            made.append(Step(act="create", resource=resource))
        elif before.settings != resource.settings:
            made.append(Step(act="change", resource=resource, before=before.settings))
        else:
            continue
        if resource.kind in waits:
            made.append(_wait(resource))
    names = {(one.kind, one.name) for one in wanted}
    left = [one for one in there if (one.kind, one.name) not in names and not keep(one)]
    for one in reversed(left):
        if changing and one.kind in waits:
            made.append(_wait(one))
        made.append(Step(act="delete", resource=one, before=one.settings))
    return tuple(made)


def _wait(resource: Resource) -> Step:
    return Step(act="wait", resource=msgspec.structs.replace(resource, settings={}))


def mark(settings: dict[str, Any]) -> str:
    """What a target keeps beside what it was asked for, as a tag: the digest of the settings; see refuse_drift.

    >>> mark({"machines": 1}) == mark({"machines": 1}), mark({"machines": 1}) == mark({"machines": 2})
    (True, False)
    """
    return hashlib.sha256(msgspec.json.encode(settings, order="deterministic")).hexdigest()[:16]


def refuse_drift(
    wanted: Sequence[Resource],
    there: Sequence[Resource],
    *,
    drift: Literal["refuse", "restore"],
    mark_of: Callable[[Resource], str | None] = lambda one: one.settings.get("asked"),
) -> None:
    """Raise DriftError if what is there was changed by hand, and ``drift`` says refuse.

    By hand: it bears the mark of just what is wanted now, and is not what is wanted. A target writes the mark with the
    settings or after them, so that an apply that was cut is not taken for somebody's hand.
    """
    if drift == "restore":
        return
    found = {(one.kind, one.name): one for one in there}
    for one in wanted:
        now = found.get((one.kind, one.name))
        if now is None or mark_of(now) is None or mark_of(now) != mark_of(one) or now.settings == one.settings:
            continue
        keys = sorted(key for key in now.settings | one.settings if now.settings.get(key) != one.settings.get(key))
        changes = ", ".join(f"{key} is {now.settings.get(key)!r}, not {one.settings.get(key)!r}" for key in keys)
        raise DriftError(
            f"{one.kind} {one.name} was changed by hand: {changes}. Put that into passerelle.toml if it is to stay; to "
            'have it put back, say drift = "restore" for this target.'
        )


def refuse_trial(deployment: Deployment, strategy: Literal["container", "platform"]) -> None:
    """Raise PlanError (rule trial-needs-container) for a trial that the platform itself would split or shadow."""
    if deployment.trial is not None and strategy == "platform":
        raise PlanError(
            "trial-needs-container",
            f'trial {deployment.trial} is going on, and strategy = "platform" draws a variant for each request, not '
            'for each unit, and pairs no shadow with its answer: no verdict would hold. Say strategy = "container".',
        )
