"""Silences: watches that send nothing for a while, because a person said so. Their alerts open and close as ever."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa

from passerelle.decoding import prepared
from passerelle.monitoring.windows import Window, keep_window, newest
from passerelle.project.settings import Watch

#: The series of what is silenced: one window, at the beginning of time, that is written over.
_SERIES = "silences"
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """A watch that sends nothing for a while."""

    watch: Watch
    since: datetime
    #: From then on it is told again.
    until: datetime
    reason: str
    #: Who said so.
    by: str


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    silences: tuple[Silence, ...] = ()


def read_silences(connection: sa.Connection, environment: str) -> tuple[Silence, ...]:
    """What is silenced, one of a watch at most; one whose time is over stands there until that was told."""
    kept = newest(connection, environment, _SERIES)
    return () if kept is None else msgspec.convert(kept.value, prepared(_Kept)).silences


def keep_silences(connection: sa.Connection, environment: str, silences: Sequence[Silence]) -> None:
    """Keep what is silenced from now on."""
    value = msgspec.to_builtins(_Kept(silences=tuple(silences)))
    keep_window(connection, environment, Window(start=_ALWAYS, watch=_SERIES, value=value))


def is_silenced(connection: sa.Connection, environment: str, watch: Watch, *, now: datetime) -> bool:
    """Does a watch send nothing at this moment?"""
    return any(one.watch == watch and now < one.until for one in read_silences(connection, environment))
