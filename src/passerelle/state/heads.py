"""Heads: the numbered lists of which shared file has which content, and how two that came from one are made one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file, as a head names it."""

    sha256: str
    size_bytes: int
    #: When it was written, in seconds of machine time: the newest run is found by it.
    written_s: float


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the shared files are, as of one number."""

    number: int
    #: The project whose they are.
    project: str
    #: Path from the state folder, with "/" → its file.
    files: dict[str, Entry]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder was last in step with."""

    store: str
    head: int
    #: Path from the state folder → sha256.
    files: dict[str, str]


def head_name(number: int) -> str:
    """The key of a head in the store."""
    return f"heads/{number:08d}.json"


def merge(
    base: Mapping[str, Entry], theirs: Mapping[str, Entry], ours: Mapping[str, Entry]
) -> tuple[dict[str, Entry], list[str]]:
    """What two jobs made of the same files, together; and the names that both changed, each in its way. Pure.

    >>> one, two = (Entry(sha256=text, size_bytes=1, written_s=0.0) for text in "12")
    >>> merged, clash = merge({"a": one}, {"a": one, "b": one}, {"c": two})
    >>> sorted(merged), clash
    (['b', 'c'], [])
    >>> merge({}, {"000001.json": one}, {"000001.json": two})[1]
    ['000001.json']
    """
    merged, clash = dict(theirs), []
    for name in sorted(base.keys() | ours.keys()):
        before, mine, other = (_content(some.get(name)) for some in (base, ours, theirs))
        if mine in (before, other):
            continue
        if other != before:
            clash.append(name)
        elif name in ours:
            merged[name] = ours[name]
        else:
            del merged[name]
    return merged, clash


def _content(entry: Entry | None) -> str | None:
    return None if entry is None else entry.sha256
