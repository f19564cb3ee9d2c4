"""Later: what takes longer than a page may wait is computed beside it, once, and kept; the page follows."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from typing import Any, Literal

import msgspec

from passerelle.errors import PasserelleError

_log = logging.getLogger(__name__)
#: A page waits so long for what it shows, and no longer; a program waits for all of it.
PAGE_S = 0.2
PROGRAM_S = 60.0
_KEPT = 64


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of it."""

    standing: Literal["there", "computing", "failed"]
    #: What was computed; None while it is not.
    value: Any = None
    #: Why it could not be.
    reason: str = ""


class Later:
    """Computes one thing after the other, in a thread of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="later")
        self._kept: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._lock = threading.Lock()
        #: Those that a page did not wait for, and how many of them are done: pages follow that, too.
        self._left: set[Future[Any]] = set()
        self.finished = 0

    def get(self, key: Hashable, make: Callable[[], Any], *, wait_s: float = PAGE_S) -> Found:
        """What ``make`` returns, computed once for each key; a key says all that it depends on."""
        future = self._begun(key, make)
        try:
            return Found(standing="there", value=future.result(wait_s))
        except NotYetError:
            self._leave(future)
            return Found(standing="computing")
        except PasserelleError as error:
            self._forget(key, future)
            return Found(standing="failed", reason=str(error))
        except Exception:  # noqa: BLE001  (it is told and logged: a page shows the rest)
            self._forget(key, future)
            _log.exception("what a page shows could not be computed")
            return Found(standing="failed", reason="it could not be computed: the dashboard's log says why.")

    def all(self, asked: Mapping[str, tuple[Hashable, Callable[[], Any]]], *, wait_s: float) -> dict[str, Found]:
        """What each of some things is, by name, after waiting for all of them together."""
        for key, make in asked.values():
            self._begun(key, make)
        end = time.monotonic() + wait_s
        return {
            name: self.get(key, make, wait_s=max(0.0, end - time.monotonic())) for name, (key, make) in asked.items()
        }

    def _begun(self, key: Hashable, make: Callable[[], Any]) -> Future[Any]:
        with self._lock:
            future = self._kept.get(key)
            if future is None:
                future = self._kept[key] = self._threads.submit(make)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        return future

    def _leave(self, future: Future[Any]) -> None:
        with self._lock:
            if future in self._left:
                return
            self._left.add(future)
        future.add_done_callback(self._count)  # at once, if it has been done meanwhile

    def _forget(self, key: Hashable, future: Future[Any]) -> None:
        """A failure is told once: who asks again may have mended it."""
        with self._lock:
            if self._kept.get(key) is future:
                del self._kept[key]

    def _count(self, future: Future[Any]) -> None:
        with self._lock:
            self._left.discard(future)
            self.finished += 1
