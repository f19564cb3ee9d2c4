"""Whereabouts: where each target in a cloud was last brought to, so that a change of place leaves nothing unseen.

``targets/<name>.json`` in the state's folder, from the first step taken there until the target is removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from passerelle.deployment.target import Placed, Target
from passerelle.errors import SettingsError
from passerelle.project.settings import FILE, Project
from passerelle.project.targets import Cloud

#: The settings of a target that say where it is, of whatever kind.
_WHERE = (
    *("environment", "region", "project", "subscription", "resource_group", "workspace", "location"),
    *("context", "namespace", "store"),
)
#: Those that were not kept from the beginning, or need not be said: what was not known then is no change.
_MAYBE = ("location", "context")
#: What targets say of their place besides (see Placed) → how to come back there.
_SEEN = {
    "account": "sign in there, or name it by AWS_PROFILE",
    "cluster": "kubectl config use-context NAME (if it is one cluster with two addresses: deploy from the former once, "
    f"with its context in {FILE})",
}


def refuse_moved(project: Project, name: str) -> None:
    """Raise SettingsError if a target is at another place than its settings now say: what is there would be lost."""
    there = _last(project, name)
    here = _where(project, name)
    if there is not None:
        there = {key: value for key, value in there.items() if key not in _SEEN}
    for key in _MAYBE:
        if there is not None and key in here and key not in there:
            there[key] = here[key]
    if there is None or here == there:
        return
    was = ", ".join(f"{key} = {value!r}" for key, value in there.items() if here.get(key) != value)
    now = ", ".join(f"{key} = {value!r}" for key, value in here.items() if there.get(key) != value)
    raise SettingsError(
        f"target {name} was last brought to {was or 'another place'}, and {FILE} says {now or 'nothing of that'} now: "
        "what is there would stay, and be paid for. Put the former settings back and passerelle target remove "
        f"{name}; then change them and deploy again. (If nothing is there any more, delete {_path(project, name)}.)"
    )


def place_of(project: Project, name: str, target: Target) -> dict[str, str]:
    """What a target says of its place besides its settings; what was kept of it, where it says nothing.

    Raises SettingsError if it is another than the last, TargetError if it cannot be asked. A context that is in the
    settings, and was at the last place, says enough: one cluster may have two addresses.
    """
    there, context = _last(project, name) or {}, _where(project, name).get("context")
    kept = {key: there[key] for key in _SEEN if key in there}
    if not isinstance(target, Placed) or (kept and context is not None and context == there.get("context")):
        return kept
    here = target.place()
    for key, was in kept.items():
        if here.get(key, was) != was:
            raise SettingsError(
                f"target {name} was last brought to {key} = {was!r}, and from here it is {key} = {here[key]!r} now, by "
                "credentials or kubectl's settings: what is there would stay, and be paid for. Go back there: "
                f"{_SEEN[key]}. To leave it for good, passerelle target remove {name} from there; then deploy from "
                f"here. (If nothing is there any more, delete {_path(project, name)}.)"
            )
    return kept | here


def note_where(project: Project, name: str, place: Mapping[str, str]) -> None:
    """Keep where a target in a cloud is; ``place``: see place_of."""
    if isinstance(project.targets[name], Cloud):
        content = msgspec.json.encode({**_where(project, name), **place})
        path = _path(project, name)
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")  # of a name that is never shared
            draft.write_bytes(content)
            draft.replace(path)


def forget_where(project: Project, name: str) -> None:
    """Nothing is left of a target."""
    _path(project, name).unlink(missing_ok=True)


def left_behind(project: Project, environment: str | None = None) -> dict[str, str]:
    """Target of an environment, or of any, that the settings no longer name, and that was not removed → what to do."""
    found = {}
    for path in sorted(_path(project, "").parent.glob("*.json")):
        there = None if path.stem in project.targets else _last(project, path.stem)
        if there is not None and environment in (None, there["environment"]):
            was = ", ".join(f"{key} = {value!r}" for key, value in there.items())
            found[path.stem] = (
                f"{FILE} has no [targets.{path.stem}] any more, and it was not removed ({was}): put the section back "
                f"and passerelle target remove {path.stem}. (If nothing is there any more, delete {path}.)"
            )
    return found


def _where(project: Project, name: str) -> dict[str, str]:
    settings = project.targets[name]
    where = {key: str(getattr(settings, key)) for key in _WHERE if getattr(settings, key, None) is not None}
    return {"project.name": project.name, "kind": str(settings.__struct_config__.tag)} | where


def _last(project: Project, name: str) -> dict[str, str] | None:
    path = _path(project, name)
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} cannot be read ({error}): bring back the copy that you have of it.") from error


def _path(project: Project, name: str) -> Path:
    return project.state / "targets" / f"{name}.json"
