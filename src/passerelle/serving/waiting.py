"""Waiting: answers on the endpoint's port until a worker does: a platform's probes are told 503, and not kept."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Self

_LIVE = (b"GET /v2/health/live ", b"GET /live ")
_HEAD_BYTES = 8192
_HEAD_S = 2.0
_LOOK_S = 0.1
_STARTING = b'{"error":"the endpoint is starting: ask again."}'


class Waiting:
    """Answers while a with block lasts, and until ``is_ready``: live, and 503 to all else. Takes no body, keeps nobody.

    Whether a worker answers is asked before each connection is taken: who was told that it does is not told 503 again.
    """

    def __init__(self, listener: socket.socket) -> None:
        #: Does a worker answer? Set when it is known how to tell.
        self.is_ready: Callable[[], bool] = lambda: False
        self._listener = listener
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._answer_all, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _answer_all(self) -> None:
        while not self._ended.is_set() and not self.is_ready():
            readable, _, _ = select.select([self._listener], [], [], _LOOK_S)
            if not readable or self._ended.is_set() or self.is_ready():
                continue
            try:
                connection, _ = self._listener.accept()
            except OSError:  # a worker, or the caller's second thought, was quicker
                continue
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(_HEAD_S)
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
            data = connection.recv(_HEAD_BYTES)
            if not data:
                return
            head += data
        live = head.startswith(_LIVE)
        status, body = (b"200 OK", b'{"live":true}') if live else (b"503 Service Unavailable", _STARTING)
        headers = b"retry-after: 1\r\ncontent-type: application/json\r\nconnection: close\r\n"
        connection.sendall(b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body))
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            connection.recv(_HEAD_BYTES)  # closed with bytes unread, it would be reset before the answer is read
