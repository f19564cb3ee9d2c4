"""Bucket: new data that lies in an object store is fetched into the inbox, once, and lands as any delivery.

The objects below ``[data] bucket`` keep their paths in the inbox: one at the top is a batch of its own, those in one
folder are a batch together. They are fetched when each new one of the batch is settled: it was there, unchanged, at the
look before, or was written a minute ago. Nothing is changed in the bucket.

What was fetched is noted, by name and mark, in ``<state>/bucket.json``, after it has come into the inbox. A crash
before that fetches it again, which changes nothing: the same content lands once. So does the loss of that file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from itertools import count, groupby
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from passerelle.clock import Clock, system_clock
from passerelle.data.deliveries import sha256
from passerelle.decoding import prepared
from passerelle.errors import DataError, PasserelleError, StoreError
from passerelle.names import load
from passerelle.project.settings import Project
from passerelle.state.lease import lease

#: An object that was written so long ago is settled at the first look.
SETTLED = timedelta(minutes=1)


class _GoneError(DataError):
    """An object is no longer there."""


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an object."""

    #: The store's mark of the content that was seen last.
    mark: str
    #: The digest of that content, once it is in the inbox; None: it was only seen.
    sha256: str | None = None


def fetch(project: Project, *, machine: Clock = system_clock) -> list[Path]:
    """Fetch what is new in the project's bucket into its inbox; the paths there. Without a bucket: nothing is done.

    ``machine`` is the machine's clock, which the store's moments are compared with. Raises StoreError if the store
    cannot be listed, LeaseError if another process ingests, and DataError if the inbox cannot be written. An object
    that cannot be read (StoreError), is gone again or whose name would lead out of the inbox (DataError) keeps back its
    own batch only: it is raised when all others have been fetched.
    """
    address = project.data.bucket
    if address is None:
        return []
    with lease(project.state, "ingest"):
        at = load("passerelle.adapters.objectstore:open_store")(address)
        found = {one.key: one for one in at.list() if _is_data(one.key)}
        astray = sorted(key for key in found if not _is_inside(key))
        record = _read(project).get(address, {})
        new = sorted(key for key, one in found.items() if key not in astray and _is_new(record.get(key), one.mark))
        moment = machine()
        came: list[Path] = []
        problems: list[PasserelleError] = []
        for _, keys in groupby(new, key=lambda key: PurePosixPath(key).parts[0]):
            batch = list(keys)
            settled = all(
                (key in record and record[key].mark == found[key].mark) or moment - found[key].changed_at >= SETTLED
                for key in batch
            )
            if not settled:
                record |= {key: _Known(mark=found[key].mark) for key in batch}
                continue
            try:
                placed = _place(project, at, batch, record)
            except (StoreError, _GoneError) as error:
                problems.append(error)
                continue
            came += [path for path, _ in placed]
            record |= {
                key: _Known(mark=found[key].mark, sha256=digest) for key, (_, digest) in zip(batch, placed, strict=True)
            }
            _write(project, address, record)
        _write(project, address, record)
    if astray:
        raise DataError(f"{address}/{astray[0]} would be written out of the inbox: rename it there.")
    if problems:
        raise problems[0]
    return came


def _is_data(key: str) -> bool:
    """Is this an object with data? Not one that marks a folder, nor one that some program keeps for itself."""
    return not key.endswith("/") and not any(part.startswith((".", "_")) for part in key.split("/") if part != "..")


def _is_inside(key: str) -> bool:
    """Does the name stay below the folder that it is fetched into?"""
    return ".." not in key.split("/") and "\\" not in key and not key.startswith("/")


def _is_new(known: _Known | None, mark: str) -> bool:
    return known is None or known.sha256 is None or known.mark != mark


def _place(project: Project, at: Any, keys: list[str], record: dict[str, _Known]) -> list[tuple[Path, str]]:
    """Fetch a batch, and move it into the inbox when all of it is here: of each object its path and digest."""
    inbox = project.root / project.data.inbox
    draft = inbox / ".bucket"  # on the inbox's disk, and no delivery
    try:
        shutil.rmtree(draft, ignore_errors=True)
        for key in keys:
            if not at.get_file(key, draft / key):
                raise _GoneError(f"{at.address}/{key} was removed while it was fetched: the next look goes on without.")
        digests = [sha256(draft / key) for key in keys]
        inbox.mkdir(parents=True, exist_ok=True)
        part = PurePosixPath(keys[0]).parts[0]
        if len(PurePosixPath(keys[0]).parts) > 1 and not (inbox / part).exists():
            (draft / part).rename(inbox / part)  # the whole batch at once
            return [(inbox / key, digest) for key, digest in zip(keys, digests, strict=True)]
        placed = []
        for key, digest in zip(keys, digests, strict=True):
            path = _free(inbox / key, digest, before=record.get(key))
            path.parent.mkdir(parents=True, exist_ok=True)
            (draft / key).replace(path)
            placed.append((path, digest))
    except OSError as error:
        raise DataError(f"{at.address} cannot be fetched into {inbox}: {error}. Free the disk, or mend it.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return placed


def _free(path: Path, digest: str, *, before: _Known | None) -> Path:
    """Where a file may be written: over itself, over what was fetched for the same object before, else beside."""
    for candidate in _candidates(path):
        if not candidate.exists():
            return candidate
        there = sha256(candidate) if candidate.is_file() else ""
        if there == digest or (before is not None and there == before.sha256):
            return candidate
    raise AssertionError("there is always another name")


def _candidates(path: Path) -> Iterator[Path]:
    """The path, then ones with a number, which does not change the table that the name says."""
    yield path
    for number in count(2):
        yield path.with_name(f"{path.name.partition('.')[0]}-{number}{''.join(path.suffixes)}")


def _read(project: Project) -> dict[str, dict[str, _Known]]:
    try:
        return msgspec.json.decode(_path(project).read_bytes(), type=prepared(dict[str, dict[str, _Known]]))
    except (FileNotFoundError, msgspec.DecodeError):
        return {}  # all is fetched again, and nothing lands twice


def _write(project: Project, address: str, record: dict[str, _Known]) -> None:
    path = _path(project)
    draft = path.with_name(f".{path.name}")
    try:
        draft.write_bytes(msgspec.json.encode(_read(project) | {address: record}))
        draft.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}. Free the disk, or mend its rights.") from error


def _path(project: Project) -> Path:
    return project.state / "bucket.json"
