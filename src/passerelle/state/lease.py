"""One holder at a time: an exclusive lease on a state folder, for one purpose.

The lease is a lock of the operating system on ``<folder>/leases/<purpose>.lock``: it ends with the process that holds
it, however that process ends, so there is nothing to clean up after a crash. It keeps apart the processes of one
machine (a network folder may not carry locks). Where the state is on a PostgreSQL server, a lock of the server's is
held as well, which keeps apart the machines.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from passerelle.errors import StateError
from passerelle.state import postgresql

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # the locked byte lies beyond the text, which others may then read

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


_PAUSE_S = 0.02


class LeaseError(StateError):
    """Another process is doing this already: wait until it has finished, or end it."""


@contextmanager
def lease(folder: Path, purpose: str, *, wait_s: float = 0) -> Iterator[None]:
    """Hold the lease for ``purpose`` ("ingest", "train", "compact") while the block runs.

    Waits for at most ``wait_s`` seconds of machine time. Raises LeaseError, naming the process that holds it.
    A process that is forked inside the block shares the lease until it ends.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, lease(Path(folder), "train"):
    ...     with lease(Path(folder), "compact"):
    ...         print("two purposes")
    two purposes
    """
    deadline = time.monotonic() + wait_s
    with _on_this_machine(folder, purpose, deadline):
        url = postgresql.state_url()
        if url is None:
            yield
            return
        with postgresql.held(folder, purpose, url, wait_s=max(0.0, deadline - time.monotonic())) as other:
            if other is not None:
                raise LeaseError(_taken(other, purpose, folder))
            yield


def lease_here(folder: Path, purpose: str, *, wait_s: float = 0) -> AbstractContextManager[None]:
    """As lease, against the processes of this machine alone: for what concerns its files, and nobody else's."""
    return _on_this_machine(folder, purpose, time.monotonic() + wait_s)


@contextmanager
def _on_this_machine(folder: Path, purpose: str, deadline: float) -> Iterator[None]:
    path = folder / "leases" / f"{purpose}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _lock(descriptor):
            if time.monotonic() >= deadline:
                raise LeaseError(_taken(_holder(path), purpose, folder))
            time.sleep(_PAUSE_S)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, str(os.getpid()).encode())
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
            _unlock(descriptor)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace") or "(just starting)"


def _taken(holder: str, purpose: str, folder: Path) -> str:
    return f"process {holder} holds the lease {purpose!r} on {folder}: wait until it has finished, or end it."
