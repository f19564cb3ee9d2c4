"""Connection: one kept-alive connection of the injector, with one request in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools


class Sent:
    """One request on its way: when it was due, what it holds, and what became of it."""

    __slots__ = ("body", "connection", "done", "due", "events", "sent")

    def __init__(self, due: float, events: int, body: bytes) -> None:
        self.due = due
        self.events = events
        self.body = body
        #: When it was put on a connection; None as long as it waits for one.
        self.sent: float | None = None
        self.connection: Connection | None = None
        self.done = False


class Connection(asyncio.Protocol):
    """Writes one request, reads its answer, and is free again.

    ``on_answer`` is called with the request, the status and the body; ``on_free`` when the next may be sent;
    ``on_lost`` once it is closed, with the request that had no answer, if any, and why.
    """

    def __init__(
        self,
        head: bytes,
        *,
        on_answer: Callable[[Sent, int, bytes], None],
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection, Sent | None, str], None],
    ) -> None:
        self._head = head
        self._on_answer = on_answer
        self._on_free = on_free
        self._on_lost = on_lost
        self._asked: Sent | None = None
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._reason = "connection closed"

    def send(self, asked: Sent, now: float) -> None:
        """Put a request on the wire. Only while the connection is free."""
        asked.sent, asked.connection = now, self
        self._asked = asked
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(asked.body), asked.body))

    def give_up(self) -> None:
        """Close; its request, if any, is the caller's affair."""
        self._asked = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserCallbackError) as error:
            self._close(f"no HTTP answer ({error})")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        asked, self._asked = self._asked, None
        self._on_lost(self, asked, self._reason if exc is None else f"connection lost ({type(exc).__name__})")

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        body, self._parts = b"".join(self._parts), []
        asked, self._asked = self._asked, None
        if asked is None:
            self._close("an answer that nobody asked for")
            return
        self._on_answer(asked, self._parser.get_status_code(), body)
        if self._parser.should_keep_alive():
            self._on_free(self)
        else:
            self._close("connection closed")

    def _close(self, reason: str) -> None:
        self._reason = reason
        self._transport.close()
