"""Plan: what is wanted and what is there → steps; pure, and the same for every target.

A target says what it wants as resources, in the order in which they are made. What is wanted and not there is created,
what differs is changed, and what is there and not wanted is deleted, last made first, when all else stands.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import DriftError, PlanError, Resource, Step
from passerelle.project.targets import Scaling

#: Characters of a mark, and of them those that are of the values.
_MARK, _VALUES = 16, 12
_WHOLE = 100
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Variables of the container that a deployment itself sets, or the image.
_OURS = tuple(f"PASSERELLE_{name}" for name in ("TRUSTED_KEYS", "PACKAGE", "PROJECT", "ENVIRONMENT", "REVISION"))


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
    """What a target keeps beside what it was asked for, as a tag: digests of the values and of their names.

    >>> mark({"machines": 1}) == mark({"machines": 1}), mark({"machines": 1}) == mark({"machines": 2})
    (True, False)
    """
    return digest(settings, _VALUES) + digest(sorted(settings), _MARK - _VALUES)


def changed(asked: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where what is found differs from what was asked for.

    >>> list(changed({"spec": {"replicas": 1, "list": [2]}}, {"spec": {"replicas": 7, "list": [2]}}))
    ['spec.replicas is 7, not 1']
    """
    if isinstance(asked, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*asked, *found]):
            yield from changed(asked.get(key), found.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(asked, list) and isinstance(found, list) and len(asked) == len(found):
        for number, (one, other) in enumerate(zip(asked, found, strict=True)):
            yield from changed(one, other, f"{path}[{number}]")
    elif asked != found:
        yield f"{path} is {found!r}, not {asked!r}"


def by_hand(now: Resource, due: Resource | None) -> list[str]:
    """What somebody changed of a resource that bears a mark; ``due``: what is wanted of it, if anything is.

    By hand: it bears the mark of just what is wanted, and is not what is wanted; or it is not what its own mark is of,
    whatever is wanted now. A mark of other settings, as another version of Passerelle sets them, tells nothing. A
    target writes mark and settings in one request, so that an apply that was cut is not taken for somebody's hand.
    """
    asked, own = now.settings.get("asked"), _unmarked(now)
    if asked is None or (due is not None and own == _unmarked(due)):
        return []
    of_own = mark(own)
    unlike = asked != of_own and asked[_VALUES:] == of_own[_VALUES:]
    if due is None:
        return [f"it is {own}"] if unlike else []
    return list(changed(_unmarked(due), own)) if unlike or asked == due.settings.get("asked") else []


def refuse_drift(
    wanted: Sequence[Resource],
    there: Sequence[Resource],
    *,
    drift: Literal["refuse", "restore"],
    by_hand: Callable[[Resource, Resource | None], Sequence[str]] = by_hand,
) -> None:
    """Raise DriftError if something that is there was changed by hand, and ``drift`` says refuse.

    ``by_hand``: what was changed of a resource that is there, in words, given what is wanted of it.
    """
    if drift == "restore":
        return
    due = {(one.kind, one.name): one for one in wanted}
    for one in there:
        if changes := by_hand(one, due.get((one.kind, one.name))):
            raise DriftError(
                f"{one.kind} {one.name} was changed by hand: {', '.join(changes)}. Put that into passerelle.toml if it "
                'is to stay; to have it put back, say drift = "restore" for this target.'
            )


def _unmarked(one: Resource) -> dict[str, Any]:
    return {key: value for key, value in one.settings.items() if key != "asked"}


def digest(value: Any, characters: int) -> str:
    """A short mark of a value of JSON: two that differ have different marks."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:characters]


def percentages(weights: Sequence[float]) -> list[int]:
    """Weights as integers that sum to exactly 100: the largest remainders are rounded up, the earlier of equals first.

    Hare-Niemeyer's method, for platforms that take no fractions and no other sum.

    >>> percentages([1 / 3, 1 / 3, 1 / 3])
    [34, 33, 33]
    """
    total = math.fsum(weights)
    shares = [weight / total * _WHOLE for weight in weights]
    floors = [math.floor(share + 1e-9) for share in shares]
    order = sorted(range(len(shares)), key=lambda index: (-round(shares[index] - floors[index], 9), index))
    for index in order[: _WHOLE - sum(floors)]:
        floors[index] += 1
    return floors


def unfit_variables(variables: Iterable[str], reserved: tuple[str, ...] = ()) -> list[str]:
    """The names of variables that cannot be set: no name at all, ours, or begun as the platform's own are.

    >>> unfit_variables(["OMP_NUM_THREADS", "a b", "AIP_MODE", "PASSERELLE_REVISION"], ("AIP_",))
    ['a b', 'AIP_MODE', 'PASSERELLE_REVISION']
    """
    return [one for one in variables if not _VARIABLE.fullmatch(one) or one.startswith((*reserved, *_OURS))]


def refuse_scaling(scaling: Scaling) -> None:
    """Raise PlanError (rules scale-to-zero and scaling) for machines that no target can be told to keep."""
    if scaling.minimum < 1:
        raise PlanError(
            "scale-to-zero",
            "scaling.minimum is 0, and an endpoint keeps one machine at least: say 1 or more, or passerelle target "
            "remove when nobody asks.",
        )
    if scaling.maximum < scaling.minimum:
        raise PlanError(
            "scaling", f"scaling.maximum is {scaling.maximum}, below scaling.minimum, {scaling.minimum}: raise it."
        )


def refuse_trial(deployment: Deployment, strategy: Literal["container", "platform"]) -> None:
    """Raise PlanError (rule trial-needs-container) for a trial that the platform itself would split or shadow."""
    if deployment.trial is not None and strategy == "platform":
        raise PlanError(
            "trial-needs-container",
            f'trial {deployment.trial} is going on, and strategy = "platform" draws a variant for each request, not '
            'for each unit, and pairs no shadow with its answer: no verdict would hold. Say strategy = "container".',
        )
