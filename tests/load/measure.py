"""The injector's own ceiling: how many requests a second it sends on time. python tests/load/measure.py

Against a server that answers the same bytes to everything, in a process of its own on this machine. Where the last
column speaks of doubts the injector is the limit, and no endpoint measured from here can be said to be.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys

import uvloop

from passerelle.load.injectors import inject
from passerelle.load.plan import at_rate
from passerelle.load.report import Injected
from passerelle.load.target import find_target
from passerelle.serving.events import Event

SECONDS = 2.0
RATES = (200, 1000, 4000, 8000, 12000, 16000, 24000)
INPUTS = {"distance": 250.0, "carrier": "UA", "plane": None}
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"prediction":1}'


class Trivial(asyncio.Protocol):
    """Every request that ends in a brace is answered; none of it is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):
            self.transport.write(ANSWER)


async def answer() -> None:
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def measure(port: int, rate: float) -> Injected:
    events = [Event(id=str(number), inputs=INPUTS) for number in range(100)]
    return inject(find_target(f"http://127.0.0.1:{port}"), at_rate(events, rate, seconds=SECONDS))


def line(done: Injected) -> str:
    latency, lag = done.latency_ms, done.lag_ms
    cells = f"{done.asked_per_s:,.0f} | {done.answered_per_s:,.0f} | {latency.p50:.2f} | {latency.p99:.2f}"
    return f"| {cells} | {lag.p50:.2f} | {lag.p99:.2f} | {done.busy:.0%} | {'; '.join(done.doubts) or 'none'} |"


if __name__ == "__main__":
    if sys.argv[1:] == ["answer"]:
        uvloop.run(answer())
        sys.exit()
    with subprocess.Popen(
        [sys.executable, __file__, "answer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        place = int(server.stdout.readline())
        sys.stdout.write(
            "| asked/s | answered/s | p50 ms | p99 ms | lag p50 ms | lag p99 ms | of a processor | doubts |\n"
        )
        for asked in RATES:
            sys.stdout.write(line(measure(place, asked)) + "\n")
            sys.stdout.flush()
        server.stdin.close()
