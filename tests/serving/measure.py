"""How many requests a second does one worker answer? python tests/serving/measure.py [durable|async|off]

A real supervisor with one worker, whose model is arithmetic, so that what is measured is the service: HTTP, JSON,
validation, routing, batching, ledger. The client shares the machine.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import uvloop

SECONDS = 4.0
INPUTS = {"distance": 250.0, "carrier": "UA", "plane": None}


async def ask(place: tuple[str, int], request: bytes, until: float, took: list[float]) -> None:
    """One connection: a request, its answer, the next request."""
    reader, writer = await asyncio.open_connection(*place)
    while (start := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        took.append(time.perf_counter() - start)
    writer.close()


async def measure(url: str, rows: int, connections: int) -> str:
    """One line of the table."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = json.dumps({"events": [{"inputs": INPUTS}] * rows} if rows > 1 else {"inputs": INPUTS}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    took: list[float] = []
    start = time.perf_counter()
    request = head.encode() + body
    await asyncio.gather(
        *(ask((host, int(port)), request, start + SECONDS, took) for _ in range(connections)),
    )
    rate = len(took) / (time.perf_counter() - start)
    took.sort()
    p50, p99 = (took[int(len(took) * share)] * 1000 for share in (0.5, 0.99))
    return f"| {rows} | {connections} | {rate:,.0f} | {rate * rows:,.0f} | {p50:.2f} | {p99:.2f} |"


if __name__ == "__main__":
    from conftest import Land

    with tempfile.TemporaryDirectory() as folder:
        land = Land(Path(folder))
        land.deploy(7, ledger=sys.argv[1] if len(sys.argv) > 1 else "durable")
        with land.serve() as endpoint:
            lines = ["| events a request | connections | requests/s | events/s | p50 ms | p99 ms |"]
            cases = ((1, 1), (1, 32), (50, 1), (50, 8))
            lines += [uvloop.run(measure(endpoint.url, *case)) for case in cases]
            sys.stdout.write("\n".join([*lines, ""]))
