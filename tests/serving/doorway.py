"""A house with a door, at a real socket: what the tests of the door and of the contracts share."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn

from passerelle.serving.door import Door
from passerelle.serving.http import Http, Limits
from passerelle.serving.workers import server_config

CLIENT = httpx.Client(verify=False, timeout=60)  # noqa: S501  (no TLS here; loading certificates for each request takes longer than it)
JSON = {"content-type": "application/json"}


class Served:
    """A house with a door, in a thread of this process."""

    def __init__(self, house: Any, tokens: Path, **limits: int) -> None:
        self.house = house
        self.http = Http(house.service, Door(tokens, host="127.0.0.1"), limits=Limits(**limits))
        self.server = uvicorn.Server(server_config(self.http))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()))

    async def _work(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.server.serve([self.socket])
        await self.house.service.close()

    def apply(self, deployment: Any) -> None:
        assert self.loop
        asyncio.run_coroutine_threadsafe(self.house.service.apply(deployment), self.loop).result(5)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return CLIENT.post(self.url + path, content=content, headers=JSON | headers)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self.server.started:
            threading.Event().wait(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join()
