"""A target's plan in lines, like a diff: what is made, changed and deleted, with the settings that change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from passerelle.deployment.target import Plan, Step

_SIGNS = {"create": "+", "change": "~", "wait": " ", "delete": "-"}
_ABSENT = object()
#: The mark by which a change by hand is told (deployment.plan.mark): nobody decides by it.
_MARK = "asked"


def lines(plan: Plan) -> list[str]:
    r"""A plan for a person who accepts it or not.

    >>> from passerelle.deployment.target import Resource
    >>> after = Resource(kind="Endpoint", name="flights-production", settings={"config": "r2", "tags": {"a": "b"}})
    >>> step = Step(act="change", resource=after, before={"config": "r1", "tags": {"a": "b"}})
    >>> print("\n".join(lines(Plan(target="sagemaker", environment="production", revision=2, steps=(step,)))))
    sagemaker, production: 1 step to revision 2
      ~ Endpoint flights-production
          config: "r1" -> "r2"
    """
    goal = "nothing left" if plan.revision is None else f"revision {plan.revision}"
    count = f"{len(plan.steps)} step{'' if len(plan.steps) == 1 else 's'}" if plan.steps else "nothing to do"
    said = [f"{plan.target}, {plan.environment}: {count}{' to ' if plan.steps else ', '}{goal}"]
    for step in plan.steps:
        said += _step(step)
    return [*said, *(f"  note: {note}" for note in plan.notes)]


def sentence(step: Step) -> str:
    """A step in a line: "+ Endpoint flights-production".

    >>> from passerelle.deployment.target import Resource
    >>> sentence(Step(act="wait", resource=Resource(kind="Endpoint", name="trips")))
    '  wait until Endpoint trips is ready'
    """
    name = f"{step.resource.kind} {step.resource.name}"
    why = f"  ({step.why})" if step.why else ""
    said = f"wait until {name} is ready" if step.act == "wait" else name
    return f"{_SIGNS[step.act]} {said}{why}"


def _step(step: Step) -> list[str]:
    said = [f"  {sentence(step)}"]
    if step.act == "create":
        said += [f"      {key}: {_text(value)}" for key, value in _flat(step.resource.settings)]
    elif step.act == "change":
        before, after = dict(_flat(step.before or {})), dict(_flat(step.resource.settings))
        for key in sorted(before.keys() | after.keys()):
            old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
            if old != new:
                said.append(f"      {key}: {_text(old)} -> {_text(new)}")
    return said


def _flat(settings: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Each value by its place: tags.owner, Variants[0].Weight."""
    if isinstance(settings, dict) and (settings or not where):
        for key in (one for one in settings if where or one != _MARK):
            yield from _flat(settings[key], f"{where}.{key}" if where else str(key))
    elif isinstance(settings, list | tuple) and settings:
        for number, one in enumerate(settings):
            yield from _flat(one, f"{where}[{number}]")
    else:
        yield where, settings


def _text(value: Any) -> str:
    return "not set" if value is _ABSENT else json.dumps(value, ensure_ascii=False, default=str)
