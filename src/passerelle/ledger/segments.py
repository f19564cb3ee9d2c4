"""Segments: the write-ahead form of the ledger. What is acknowledged is in one, on the disk.

| bytes | what |
|---|---|
| 8 | ``PSRLEDGR`` |
| 4 | the format's version, 1 |
| 4 | crc32 of the 12 bytes before |
| then, for each frame: 4 | length of the frame's records |
| 4 | crc32 of those 4 bytes and of the records |
| length | the records: a msgpack array |

Numbers are unsigned and little-endian. A frame is whole or it is not there: a reader takes every frame up to the first
that is torn or damaged, and says where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import LedgerError
from passerelle.ledger.records import Record
from passerelle.ledger.storage import Slot, Storage
from passerelle.project.settings import LedgerMode

VERSION = 1
#: Mode async: how long a record waits for its flush, at most, and so what a crash can cost.
FLUSH_S = 0.1
#: The same on an object store, where each flush is a PUT, which is paid for.
STORE_FLUSH_S = 1.0
#: Mode async: records wait in memory up to this size while the disk fails; beyond it they are refused.
PENDING_BYTES = 64 * 2**20

_MAGIC = b"PSRLEDGR"
_HEADER = struct.Struct("<8sII")
#: Where a segment's first frame begins.
HEADER_BYTES = _HEADER.size
_FRAME = struct.Struct("<II")
_FRAME_RECORDS = 1000
_TICK_S = 0.05
_CLAIM_S = 2.0

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(prepared(list[Record]))


def header() -> bytes:
    """The first 16 bytes of every segment."""
    start = _HEADER.pack(_MAGIC, VERSION, 0)[:12]
    return start + struct.pack("<I", zlib.crc32(start))


def frame(records: Sequence[Record]) -> bytes:
    """Records as frames of at most a thousand. Raises LedgerError for a value that msgpack cannot write."""
    frames = []
    for start in range(0, len(records), _FRAME_RECORDS):
        try:
            payload = _encoder.encode(list(records[start : start + _FRAME_RECORDS]))
        except (TypeError, ValueError, OverflowError) as error:
            raise LedgerError(
                f"these records cannot be written to the ledger: {error}. Nothing was recorded: send plain JSON values."
            ) from error
        length = struct.pack("<I", len(payload))
        frames.append(length + struct.pack("<I", zlib.crc32(payload, zlib.crc32(length))) + payload)
    return b"".join(frames)


def frames(data: bytes) -> Iterator[list[Record] | str]:
    """The records of each whole frame of a segment, then, if it is damaged, one sentence that says where.

    Raises LedgerError for a segment of a newer Passerelle.
    """
    if not data:
        return
    magic, version, crc = _HEADER.unpack_from(data.ljust(_HEADER.size, b"\0"))
    header_is_whole = len(data) >= _HEADER.size and crc == zlib.crc32(data[:12])
    if header_is_whole and magic == _MAGIC and version > VERSION:
        raise LedgerError(
            f"this segment has format {version}, and this Passerelle reads {VERSION}: upgrade Passerelle."
        )
    place = _HEADER.size
    while place < len(data):
        whole = read_frame(data, place)
        if isinstance(whole, str):
            yield whole
            return
        records, place = whole
        yield records
    if not header_is_whole or magic != _MAGIC:
        yield "its first 16 bytes are torn or damaged"


def read_frame(data: bytes, place: int) -> tuple[list[Record], int] | str:
    """The records of the frame at this byte, and the byte after it; or why there is no whole frame."""
    left = len(data) - place
    if left < _FRAME.size:
        return f"torn at byte {place} of {len(data)}: the last {left} bytes are an unfinished frame"
    length, crc = _FRAME.unpack_from(data, place)
    start = place + _FRAME.size
    if length > left - _FRAME.size:
        return (
            f"torn or damaged at byte {place} of {len(data)}: a frame of {length} bytes begins and {len(data) - start} "
            "bytes follow"
        )
    payload = data[start : start + length]
    if crc != zlib.crc32(payload, zlib.crc32(data[place : place + 4])):
        return f"damaged at byte {place} of {len(data)}: the frame's checksum differs; {left} bytes were left unread"
    try:
        return _decoder.decode(payload), start + length
    except msgspec.DecodeError as error:
        return f"unknown record in the frame at byte {place} of {len(data)} ({error}); {left} bytes were left unread"


def read_segment(data: bytes) -> tuple[list[Record], str | None]:
    """All records of the whole frames up to the first damage, and where that is (None: there is none).

    Raises LedgerError for a segment of a newer Passerelle.

    >>> read_segment(header() + b"torn")
    ([], 'torn at byte 16 of 20: the last 4 bytes are an unfinished frame')
    """
    records: list[Record] = []
    damage = None
    for whole in frames(data):
        if isinstance(whole, str):
            damage = whole
        else:
            records += whole
    return records, damage


class Writer:
    """Appends records to the segments of one slot. Belongs to one event loop; close it.

    | mode | append returns | what can be lost |
    |---|---|---|
    | durable | when its records are on the disk | nothing that was acknowledged |
    | async | at once; flushed together every 100 ms (object store: 1 s) | what that time and one flush wrote |
    | off | at once | everything: nothing is recorded |

    Group commit: all that waits while a flush is under way goes into the next one. Flushes run in a thread.

    Raises LedgerError when made, if a living process holds the slot.
    """

    def __init__(
        self, storage: Storage, *, slot: str, mode: LedgerMode, roll_bytes: int = 64 * 2**20, roll_s: float = 60.0
    ) -> None:
        self._mode = mode
        self._roll_bytes = roll_bytes
        self._roll_s = roll_s
        self._slot = None if mode == "off" else _claim(storage, slot)
        self._flush_s = STORE_FLUSH_S if self._slot is not None and self._slot.seals_appends else FLUSH_S
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._waiting: list[tuple[bytes, asyncio.Future[None] | None]] = []
        self._waiting_bytes = 0
        self._failure: LedgerError | None = None
        self._size_bytes = 0
        self._opened_s = 0.0
        self._looked_s = 0.0
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def append(self, records: Sequence[Record]) -> None:
        """Record them, in this order; see the table above for what is certain when this returns.

        Raises LedgerError if they could not be recorded: none of them is acknowledged, and the Writer goes on; what
        follows is recorded as soon as the disk takes it. Of durable records that failed some may be there all the
        same (the disk failed after it had written), which is what an id is for.
        """
        if self._slot is None or not records:
            return
        if self._closing.is_set():
            raise LedgerError("this ledger's writer is closed: nothing was recorded.")
        data = frame(records)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(self._slot))
        waiter = asyncio.get_running_loop().create_future() if self._mode == "durable" else None
        if waiter is None and self._waiting_bytes + len(data) > PENDING_BYTES:
            raise LedgerError(f"{self._waiting_bytes} bytes wait for the disk already: {self._failure or 'it is slow'}")
        self._waiting.append((data, waiter))
        self._waiting_bytes += len(data)
        self._wake.set()
        if waiter is not None:
            await waiter

    async def close(self) -> None:
        """Flush what waits, seal the segment, give the slot back. Raises LedgerError if the last flush failed."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        try:
            if self._task is not None:
                await self._task
        finally:
            self._thread.shutdown()
            if self._slot is not None:
                self._slot.release()
        if self._waiting:
            raise LedgerError(f"{self._waiting_bytes} bytes of records were lost at the end: {self._failure}")

    async def _work(self, slot: Slot) -> None:
        """Flush and roll, until closed."""
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S if self._size_bytes or self._waiting else None):
                    await self._wake.wait()
            if self._mode == "async":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._flush_s):
                        await self._closing.wait()
            self._wake.clear()
            await self._flush(slot)
            await self._roll(slot)
        await self._flush(slot)
        await self._seal(slot)

    async def _flush(self, slot: Slot) -> None:
        """Write all that waits in one append, and answer for it."""
        if not self._waiting:
            return
        group, self._waiting = self._waiting, []
        data = b"".join([b"" if self._size_bytes else header(), *(one for one, _ in group)])
        failure = None
        try:
            await self._in_thread(slot.append, data)
        except Exception as error:  # noqa: BLE001  (whatever it was, those who wait must hear of it)
            failure = error if isinstance(error, LedgerError) else LedgerError(f"the ledger failed: {error!r}.")
        if failure is None:
            if not self._size_bytes:
                self._opened_s = time.monotonic()
            if not slot.seals_appends:  # else the next append is another segment
                self._size_bytes += len(data)
        else:
            self._size_bytes = 0  # the slot begins another segment
            if self._mode == "async":
                self._waiting = group + self._waiting
        self._failure = failure
        self._waiting_bytes = sum(len(one) for one, _ in self._waiting)
        for _, waiter in group:
            if waiter is None or waiter.done():
                continue
            if failure is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(LedgerError(str(failure)))

    async def _roll(self, slot: Slot) -> None:
        """Seal the open segment if it is large or old enough, or if somebody asked for it."""
        if not self._size_bytes:
            return
        now_s = time.monotonic()
        due = self._size_bytes >= self._roll_bytes or now_s - self._opened_s >= self._roll_s
        if not due and now_s - self._looked_s >= _TICK_S:
            self._looked_s = now_s
            # Whatever is wrong with the storage: flushes go on, and tell those who wait. It is asked again soon.
            with contextlib.suppress(Exception):
                due = await self._in_thread(slot.asked)
        if due:
            self._size_bytes = 0
            await self._seal(slot)

    async def _seal(self, slot: Slot) -> None:
        """Seal; a segment that cannot be sealed loses nothing, and is sealed before the slot's next one begins."""
        with contextlib.suppress(Exception):  # not LedgerError alone: this task must live as long as the Writer
            await self._in_thread(slot.seal)

    async def _in_thread(self, act: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)


async def record(storage: Storage, records: Sequence[Record], *, slot: str) -> None:
    """Record durably once, for who has a file to record and no event loop: ``asyncio.run(record(...))``.

    Raises LedgerError if the slot is taken or the disk fails.
    """
    writer = Writer(storage, slot=slot, mode="durable")
    try:
        await writer.append(records)
    finally:
        await writer.close()


def _claim(storage: Storage, slot: str) -> Slot:
    """Claim a slot; compaction may hold it for a moment, to seal what a dead owner left."""
    until_s = time.monotonic() + _CLAIM_S
    while True:
        try:
            return storage.claim(slot)
        except LedgerError:
            if time.monotonic() >= until_s:
                raise
            time.sleep(0.05)
