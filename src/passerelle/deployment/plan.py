"""Plan: what is wanted and what is there → steps; pure, and the same for every target.

A target says what it wants as resources, in the order in which they are made. What is wanted and not there is created,
what differs is changed, and what is there and not wanted is deleted, last made first, when all else stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from passerelle.deployment.target import Resource, Step


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
