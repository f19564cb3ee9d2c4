"""Slips: which key or value of a section is wrong, and what it should be, in words."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from passerelle.errors import SettingsError

#: Keys that have gone, and what stands in their place.
_RENAMED = {"trial.independent_rows": 'say trial.evidence = "rows" for true, or "days" (the default) for false.'}


def refuse_unknown(raw: Mapping[str, Any], section: type[msgspec.Struct], where: str, path: Path) -> None:
    """Raise SettingsError for a key that a section has not, and for a number that is none. ``where``: the section."""
    known = {field.name: field.type for field in msgspec.structs.fields(section) if field.name != "root"}
    for key, value in raw.items():
        place = f"{where}.{key}".lstrip(".")
        if place in _RENAMED:
            raise SettingsError(f"{path}: {place!r} is no key any more: {_RENAMED[place]}")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys here are {', '.join(known)}."
            raise SettingsError(f"{path}: unknown key {place!r}: {hint}")
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingsError(f"{path}: {place} is {value}: give a number that is finite.")
        kind = known[key]
        item = get_args(kind)[0] if get_origin(kind) in (tuple, Union, UnionType) else kind
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    refuse_unknown(one, item, place, path)


def in_words(error: msgspec.ValidationError, section: type[msgspec.Struct], where: str = "") -> str:
    """What msgspec says of a section, with the place, the values that can be, or what the value is for.

    >>> from passerelle.project.settings import Task
    >>> try:
    ...     msgspec.convert({"kind": "bniary", "target": "late", "key": []}, Task)
    ... except msgspec.ValidationError as error:
    ...     in_words(error, Task, "task")
    "invalid enum value 'bniary' (at task.kind): did you mean 'binary'?"
    """
    text, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`")
    kind = _kind(section, place)
    meant = [one.description for one in get_args(kind) if isinstance(one, msgspec.Meta) and one.description]
    said = "not taken" if meant else f"{text[0].lower()}{text[1:]}"
    if at := f"{where}{place}".lstrip("."):
        said += f" (at {at})"
    if given := re.match(r"Invalid enum value '(.*)'$", text):
        return said + nearest(given[1], [str(word) for word in get_args(kind)])
    return f"{said}: it is {meant[0]}" if meant else said


def nearest(given: str, words: Iterable[str]) -> str:
    """The end of a sentence about a value that is none of these.

    >>> nearest("kserv", ["deployment", "kserve"]), nearest("x", ["deployment", "kserve"])
    (": did you mean 'kserve'?", ': name one of deployment, kserve')
    """
    words = list(words)
    near = difflib.get_close_matches(given, words, n=1)
    return f": did you mean {near[0]!r}?" if near else f": name one of {', '.join(words)}"


def _kind(section: type[msgspec.Struct], place: str) -> Any:
    """The type of what is at a place of a section, as msgspec writes places."""
    kind: Any = section
    for name in re.sub(r"\[.*?\]", "", place).strip(".").split("."):
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return None
        kind = next((field.type for field in msgspec.structs.fields(kind) if field.name == name), None)
        while kind is not None and get_origin(kind) not in (None, Literal, Annotated):
            kind = get_args(kind)[-1 if get_origin(kind) is dict else 0]
    return kind
