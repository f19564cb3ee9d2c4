"""MemoryStorage: the in-memory twin of ledger.storage, for tests of what writes to a ledger."""

from __future__ import annotations

import secrets

import msgspec

from passerelle.errors import LedgerError
from passerelle.ledger.storage import SegmentName


class MemoryStorage:
    """Segments in a dictionary; gone with the process. Set ``full`` to have every append fail like a full disk.

    >>> storage = MemoryStorage()
    >>> slot = storage.claim("worker-0")
    >>> slot.append(b"some bytes")
    >>> slot.seal()
    >>> [storage.read(name) for name in storage.names()]
    [b'some bytes']
    """

    def __init__(self) -> None:
        self.full = False
        #: Open segments that somebody wants sealed.
        self.wanted: set[SegmentName] = set()
        self._segments: dict[SegmentName, bytes] = {}
        self._owners: set[str] = set()
        self._marks: dict[str, str] = {}
        self._last: dict[str, int] = {}

    def claim(self, slot: str) -> MemorySlot:
        """See Storage."""
        if slot in self._owners:
            raise LedgerError(f"slot {slot!r} belongs to another owner that is alive: end it, or name another.")
        self._owners.add(slot)
        writer = f"{slot}.{self._marks.setdefault(slot, secrets.token_hex(6))}"
        for name in self.names():
            if name.writer == writer and not name.sealed:
                self._seal(name)
        return MemorySlot(self, writer)

    def names(self) -> list[SegmentName]:
        """See Storage."""
        return sorted(self._segments)

    def read(self, name: SegmentName) -> bytes | None:
        """See Storage."""
        return self._segments.get(name, self._segments.get(msgspec.structs.replace(name, sealed=True)))

    def delete(self, name: SegmentName) -> None:
        """See Storage."""
        self._segments.pop(name, None)

    def _next(self, writer: str) -> SegmentName:
        self._last[writer] = self._last.get(writer, 0) + 1
        return SegmentName(writer=writer, sequence=self._last[writer], sealed=False)

    def _seal(self, name: SegmentName) -> None:
        self._segments[msgspec.structs.replace(name, sealed=True)] = self._segments.pop(name)
        self.wanted.discard(name)


class MemorySlot:
    """A slot of MemoryStorage."""

    seals_appends = False

    def __init__(self, storage: MemoryStorage, writer: str) -> None:
        self.writer = writer
        self._storage = storage
        self._open: SegmentName | None = None

    def append(self, data: bytes) -> None:
        """See Slot."""
        storage = self._storage
        if storage.full:
            self.seal()
            raise LedgerError("the memory is full, as you asked. Nothing was acknowledged: free the disk.")
        if self._open is None:
            self._open = storage._next(self.writer)  # noqa: SLF001  (one part in two classes)
        storage._segments[self._open] = storage._segments.get(self._open, b"") + data  # noqa: SLF001  (the same)

    def seal(self) -> None:
        """See Slot."""
        if self._open is not None:
            self._storage._seal(self._open)  # noqa: SLF001  (one part in two classes)
            self._open = None

    def asked(self) -> bool:
        """See Slot."""
        return self._open in self._storage.wanted

    def release(self) -> None:
        """See Slot."""
        self._open = None
        self._storage._owners.discard(self.writer.partition(".")[0])  # noqa: SLF001  (one part in two classes)
