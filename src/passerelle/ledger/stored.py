"""Stored: where else an environment's segments are kept, beside the ledger's folder, and how far each place was read.

Endpoints in a cloud write to an object store (``Deployment.ledger_at``); compaction moves what lies there into the
tables of the ledger's folder. ``stored.json`` in that folder says which places there are, and up to when all that was
written there is in the tables: no day is closed beyond it, for its events may still lie in the store.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import LedgerError
from passerelle.ledger.storage import Storage, open_storage, sync_folder

#: A record lies in the store this long after its event, at the latest; one that comes later is counted as late.
LAG = timedelta(minutes=5)
#: A place that no revision names any more is read for this long, while its endpoints end.
LEAVE = timedelta(days=1)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place where segments are kept."""

    #: All that was written there before this moment, in event time, is in the tables; None: it was never read.
    gathered_at: datetime | None = None
    #: Since when no revision names it; None: the current one does.
    left_at: datetime | None = None


def places(folder: Path) -> dict[str, Place]:
    """Address → what is known of it, for the ledger in ``folder``. Raises LedgerError."""
    path = _path(folder)
    try:
        return msgspec.json.decode(path.read_bytes(), type=prepared(dict[str, Place]))
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise LedgerError(
            f"{path} cannot be read ({error}): it says where segments are kept. Restore it, or remove it: it is made "
            "again from the current revision."
        ) from error


def expect(folder: Path, at: str | None, *, now: datetime) -> dict[str, Place]:
    """Note that segments are kept at an address from now on (None: in ``folder`` alone); all places there are.

    A place that was left a day ago, and has been read since, is forgotten. Raises LedgerError.
    """
    if at is None and not _path(folder).exists():
        return {}
    with _alone(folder):
        before = places(folder)
        after = dict(before)
        if at is not None:
            after[at] = msgspec.structs.replace(after.get(at, Place()), left_at=None)
        for address, place in before.items():
            if address == at:
                continue
            left = place.left_at or now
            if place.gathered_at is not None and place.gathered_at >= left + LEAVE:
                del after[address]
            else:
                after[address] = msgspec.structs.replace(place, left_at=left)
        if after != before:
            _write(folder, after)
        return after


def note(folder: Path, at: str, *, now: datetime) -> None:
    """Note that all that lay at an address is in the tables. Raises LedgerError."""
    with _alone(folder):
        after = places(folder)
        after[at] = msgspec.structs.replace(after.get(at, Place()), gathered_at=now)
        _write(folder, after)


def gathered_until(folder: Path) -> datetime | None:
    """Up to when, in event time, every place has been read; None: there is no place but ``folder``."""
    found = [place.gathered_at for place in places(folder).values()]
    return min((datetime.min.replace(tzinfo=UTC) if at is None else at - LAG for at in found), default=None)


def storages(folder: Path) -> dict[str, Storage]:
    """The storage at each place. Raises LedgerError."""
    return {at: open_storage(at, folder) for at in places(folder)}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time reads stored.json and writes it anew, for what the other noted would be lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "stored.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # for the moment that it takes
            yield
    except OSError as error:
        raise LedgerError(f"{_path(folder)} cannot be changed: {error}. Free the disk, and try again.") from error


def _path(folder: Path) -> Path:
    return folder / "stored.json"


def _write(folder: Path, known: dict[str, Place]) -> None:
    path = _path(folder)
    draft = path.with_name(f".{path.name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(known)) + b"\n")
        draft.replace(path)
        sync_folder(folder)
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error}. Free the disk, and try again.") from error
