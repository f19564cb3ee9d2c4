"""Servers of these tests: HTTP by hand, in a thread, so that a test decides how they behave."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

Answer = Callable[[int, bytes], Awaitable[bytes]]
"""From the number of a request (from 0) and its body to the bytes that are sent back; none: the connection closes."""


def reply(value: Any, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer."""
    body = json.dumps(value).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Server:
    """What a server of a test has seen."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.url = ""
        self.bodies: list[bytes] = []
        self.heads: list[str] = []
        self.arrived: list[float] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
                body = await reader.readexactly(size)
                number = len(self.bodies)
                self.heads.append(head)
                self.bodies.append(body)
                self.arrived.append(time.monotonic())
                answered = await self.answer(number, body)
                if not answered:
                    return
                writer.write(answered)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@contextmanager
def answering(answer: Answer) -> Iterator[Server]:
    """A server on a free port of this machine, until the block ends."""
    seen = Server(answer)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(seen.serve, "127.0.0.1", 0, backlog=512)
        seen.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(30)
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
