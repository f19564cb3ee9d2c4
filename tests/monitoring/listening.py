"""A real HTTP server on this machine that keeps what is posted to it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Listener:
    """What was posted, with its headers; ``status`` is what it answers."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        #: Wait so long before each byte of the answer.
        self.drip_s = 0.0
        self.port = 0


@contextmanager
def listening(port: int = 0) -> Iterator[Listener]:
    """A server while the block runs; port 0 takes any that is free."""
    heard = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if heard.status == 200:
                headers = {name.lower(): value for name, value in self.headers.items()}
                heard.posts.append((headers | {"path": self.path}, json.loads(body)))
            if heard.drip_s:
                for byte in b"HTTP/1.1 200 OK":
                    time.sleep(heard.drip_s)
                    try:
                        self.wfile.write(bytes([byte]))
                    except OSError:
                        return
            self.send_response(heard.status)
            for name, value in heard.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    heard.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
