"""Storage: where segments are kept; the seam. ``LocalStorage`` keeps them in a folder of this machine.

An object store (adapters.objectstore) keeps them for machines that go: ``open_storage`` takes either by its address.

A segment is open while its writer appends to it, then sealed: nothing is ever added to it again. A *slot* is a place
that one process at a time writes from ("worker-0"); a *writer* is a slot with the mark that it was given when it was
first used (in an object store: each time it was claimed), so that a slot whose counter was lost is never mistaken for
the old one. Segments of a writer are numbered 1, 2, 3 ...; a number is never used twice, for compaction knows by it
what it has already moved.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Protocol, cast

import msgspec

from passerelle.deployment.spec import is_name
from passerelle.errors import LedgerError, StoreError
from passerelle.names import ADAPTERS, load

#: The schemes of addresses in an object store.
STORED = ("s3", "gs", "az", "abfss")
#: What may name a slot.
SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_FILE = re.compile(r"(?P<writer>[A-Za-z0-9_.-]+)-(?P<sequence>\d{12})\.(?P<state>open|seg)")
_COUNTER = re.compile(rb"([0-9a-f]{12}) (\d{12})\n")


class SegmentName(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Which segment. Names sort by writer, then in the order of writing.

    >>> SegmentName(writer="worker-0.9f2c61d40b7e", sequence=12, sealed=True).file
    'worker-0.9f2c61d40b7e-000000000012.seg'
    """

    #: The slot and its mark: the application id of Delta.
    writer: str
    #: 1, 2, 3 ... for each writer: the application's version in Delta.
    sequence: int
    #: Is it complete? False: a writer may still add to it.
    sealed: bool

    @property
    def slot(self) -> str:
        """The slot that wrote it."""
        return self.writer.partition(".")[0]

    @property
    def file(self) -> str:
        """Its name as a file."""
        return f"{self.writer}-{self.sequence:012d}.{'seg' if self.sealed else 'open'}"


def segment_name(file: str) -> SegmentName | None:
    """The segment that a file of this name holds; None if it is no segment's name."""
    match = _FILE.fullmatch(file)
    if match is None:
        return None
    return SegmentName(writer=match["writer"], sequence=int(match["sequence"]), sealed=match["state"] == "seg")


class Slot(Protocol):
    """A claimed slot: what one Writer appends through. All methods are called from that Writer's thread, in turn."""

    #: Is each append a sealed segment of its own, as in an object store?
    seals_appends: bool

    def append(self, data: bytes) -> None:
        """Add bytes to the open segment, or to a new one if none is open; return when they are durable.

        Called once for each group of records. Raises LedgerError if they cannot be made durable: none of them is then
        acknowledged, the open segment is sealed without them, and the next append begins a new segment. An object
        store keeps each append as a segment of its own: one PUT.
        """

    def seal(self) -> None:
        """Seal the open segment, if there is one. Called when it is large or old enough, when asked, and at the end.

        Raises LedgerError; the segment then stays open, and the next append or claim seals it.
        """

    def asked(self) -> bool:
        """Does somebody wait for the open segment to be sealed? Called about twenty times a second."""

    def release(self) -> None:
        """Give the slot back: another process may claim it. Called once, last. Death releases it too."""


class Storage(Protocol):
    """Where segments are kept. Safe to use from several processes at once."""

    def claim(self, slot: str) -> Slot:
        """Take a slot for this process, and seal what a dead owner left open.

        Called by a Writer when it is made, and by compaction for each slot with an open segment. Raises LedgerError at
        once if a living process holds it: a Writer tries again for two seconds, compaction leaves the slot alone. Where
        nothing is ever left open, as in an object store, a slot may have several owners: each is a writer of its own.
        """

    def names(self) -> list[SegmentName]:
        """The segments there are, sorted. Called by compaction and by every reader, before they look at Delta."""

    def read(self, name: SegmentName) -> bytes | None:
        """What a segment holds, sealed since or not; None if it is gone, since compaction has moved it into Delta.

        Called by compaction and by readers. Of an open segment the last bytes may be an unfinished frame. Raises
        LedgerError if it is there and cannot be read: compaction stops and moves nothing.
        """

    def delete(self, name: SegmentName) -> None:
        """Remove a sealed segment; nothing happens if it is gone. Called by compaction once Delta holds it durably.

        Raises LedgerError: the segment stays, and the next compaction finds that it was moved, and removes it.
        """


class LocalStorage:
    """Segments in ``folder/segments``, where ``folder`` is the ledger's (see ledger_folder).

    >>> import tempfile
    >>> storage = LocalStorage(Path(tempfile.mkdtemp()))
    >>> slot = storage.claim("worker-0")
    >>> slot.append(b"some bytes")
    >>> [name] = storage.names()
    >>> name.slot, name.sequence, name.sealed, storage.read(name)
    ('worker-0', 1, False, b'some bytes')
    >>> slot.release()
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "segments"

    def claim(self, slot: str) -> LocalSlot:
        """Take a slot by a lock on its file; see Storage."""
        if not SLOT.fullmatch(slot):
            raise LedgerError(f"{slot!r} cannot name a slot: use letters, digits, - and _, at most 63.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return LocalSlot(self, slot)
        except BlockingIOError as error:
            raise LedgerError(
                f"slot {slot!r} of {self.folder} belongs to another process that is alive: end it, or name another."
            ) from error
        except OSError as error:
            raise LedgerError(
                f"slot {slot!r} of {self.folder} cannot be claimed: {error}. Nothing was lost."
            ) from error

    def names(self) -> list[SegmentName]:
        """The segments in the folder; see Storage."""
        found = (segment_name(file) for file in _listed(self.folder))
        return sorted(name for name in found if name is not None)

    def read(self, name: SegmentName) -> bytes | None:
        """Read the file, under its sealed name too; see Storage."""
        for file in (name.file, msgspec.structs.replace(name, sealed=True).file):
            try:
                return (self.folder / file).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LedgerError(f"segment {self.folder / file} cannot be read: {error}.") from error
        return None

    def delete(self, name: SegmentName) -> None:
        """Unlink the file; see Storage."""
        try:
            (self.folder / name.file).unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(f"segment {self.folder / name.file} cannot be removed: {error}.") from error

    def ask_to_seal(self, name: SegmentName) -> None:
        """Ask the living writer of an open segment to seal it: it does within a fraction of a second."""
        self.request(name).touch()

    def request(self, name: SegmentName) -> Path:
        """The file by which an open segment's writer is asked to seal it."""
        return self.folder / f"{name.writer}-{name.sequence:012d}.roll"


class LocalSlot:
    """A slot of LocalStorage: the lock on ``<slot>.slot``, which holds the writer's mark and its last number.

    The lock is flock's: it ends with the process, however that ends, and a started program does not inherit it.
    """

    seals_appends = False

    def __init__(self, storage: LocalStorage, slot: str) -> None:
        self._storage = storage
        self._folder = storage.folder
        self._open: tuple[SegmentName, int] | None = None
        self._size_bytes = 0
        self._lock = os.open(self._folder / f"{slot}.slot", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            counter = _COUNTER.fullmatch(os.pread(self._lock, 64, 0))
            self._mark = counter[1].decode() if counter else secrets.token_hex(6)
            self.writer = f"{slot}.{self._mark}"
            mine = [name for name in storage.names() if name.writer == self.writer]
            self._last = max([int(counter[2]) if counter else 0, *(name.sequence for name in mine)])
            self._count(self._last)
            sync_folder(self._folder)
            self._seal_left(slot)
        except BaseException:
            os.close(self._lock)
            raise

    def append(self, data: bytes) -> None:
        """Write and fdatasync; on failure, cut the segment back to what was acknowledged; see Slot."""
        try:
            _, file = self._open or self._create()
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            sync_file(file)
        except OSError as error:
            self._abandon()
            raise LedgerError(
                f"the ledger in {self._folder} cannot be written: {error}. Nothing was acknowledged: free the disk."
            ) from error
        self._size_bytes += len(data)

    def seal(self) -> None:
        """Rename the file from .open to .seg; see Slot."""
        if self._open is None:
            return
        name, file = self._open
        self._open = None
        os.close(file)
        try:
            self._rename(name)
        except OSError as error:
            raise LedgerError(f"segment {self._folder / name.file} cannot be sealed: {error}.") from error

    def asked(self) -> bool:
        """Look for the request's file; see Slot."""
        return self._open is not None and self._storage.request(self._open[0]).exists()

    def release(self) -> None:
        """Close the lock's file; see Slot."""
        if self._open:
            os.close(self._open[1])
            self._open = None
        os.close(self._lock)

    def _create(self) -> tuple[SegmentName, int]:
        self._seal_left(self.writer.partition(".")[0])
        self._count(self._last + 1)
        self._last += 1
        name = SegmentName(writer=self.writer, sequence=self._last, sealed=False)
        file = os.open(self._folder / name.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._open, self._size_bytes = (name, file), 0
        sync_folder(self._folder)
        return self._open

    def _abandon(self) -> None:
        """After a failure: what was not acknowledged goes, what was is sealed. What fails here, a reader can bear."""
        if self._open is None:
            return
        name, file = self._open
        self._open = None
        with contextlib.suppress(OSError):
            os.ftruncate(file, self._size_bytes)
        with contextlib.suppress(OSError):
            os.close(file)
        with contextlib.suppress(OSError):
            if self._size_bytes:
                self._rename(name)
            else:
                (self._folder / name.file).unlink()

    def _seal_left(self, slot: str) -> None:
        """Seal what earlier owners of the slot left open: they are dead, since we hold the lock."""
        for name in self._storage.names():
            if name.slot == slot and not name.sealed:
                self._rename(name)

    def _rename(self, name: SegmentName) -> None:
        (self._folder / name.file).rename(self._folder / msgspec.structs.replace(name, sealed=True).file)
        self._storage.request(name).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _count(self, last: int) -> None:
        """Note the last number durably before it is used."""
        os.pwrite(self._lock, f"{self._mark} {last:012d}\n".encode(), 0)
        sync_file(self._lock)


def open_storage(at: str | None, folder: Path) -> Storage:
    """The storage at an address, as ``Deployment.ledger_at``; None: in ``folder``, the ledger's on this machine.

    An address without a scheme is a folder of this machine. Raises LedgerError for an address that names no storage,
    and MissingExtraError if what it needs is not installed.
    """
    if at is None:
        return LocalStorage(folder)
    scheme, sign, _ = at.partition("://")
    if not sign:
        return LocalStorage(Path(at))
    if scheme not in STORED:
        raise LedgerError(f"a ledger cannot be kept at {at!r}: name a folder, or begin with one of {list(STORED)}.")
    try:
        return cast("Storage", load(ADAPTERS[scheme])(at))
    except StoreError as error:
        raise LedgerError(f"the ledger at {at} cannot be opened: {error}") from error


def ledger_folder(state: Path, environment: str) -> Path:
    """Where an environment's ledger is, below a project's state folder: segments, predictions, outcomes.

    Raises LedgerError for what is no environment's name: it could lead out of the project.
    """
    if not is_name(environment):
        raise LedgerError(
            f"{environment!r} cannot name an environment, so it has no ledger: take a small letter, then small "
            "letters, digits, - and _, 63 at most."
        )
    return state / "ledger" / environment


def sync_file(file: int) -> None:
    """Return when what was written to a file is on the disk."""
    if sys.platform == "darwin":
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)  # fsync leaves it in the drive's cache there
    else:
        os.fdatasync(file)


def sync_folder(folder: Path) -> None:
    """Return when a folder's names are on the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _listed(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LedgerError(f"the ledger in {folder} cannot be listed: {error}.") from error
