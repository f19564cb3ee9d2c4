"""The figures of docs/ledger.md, on this machine: python tests/ledger/measuring.py [FOLDER]."""

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from making import outcome, prediction

from passerelle.ledger.compaction import compact
from passerelle.ledger.segments import Writer
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.views import ask, totals

NOW = datetime(2013, 3, 1, tzinfo=UTC)
INPUTS = {f"number_{place}": place * 1.5 for place in range(10)} | {"carrier": "UA", "origin": "EWR", "dest": "SFO"}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


async def acknowledged(folder: Path, clients: int, seconds: float) -> None:
    writer = Writer(LocalStorage(folder), slot=f"clients-{clients}", mode="durable")
    waits: list[float] = []
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        batch = [prediction(f"{number}-{place}", inputs=INPUTS) for place in range(50)]
        while (started := time.perf_counter()) < until:
            await writer.append(batch)
            waits.append(time.perf_counter() - started)

    await asyncio.gather(*(client(number) for number in range(clients)))
    await writer.close()
    percentiles = statistics.quantiles(waits, n=100)
    rate = len(waits) * 50 / seconds
    say(
        f"durable, batches of 50, {clients:2} clients: {rate:9,.0f} records/s acknowledged, "
        f"p50 {percentiles[49] * 1e3:.2f} ms, p99 {percentiles[98] * 1e3:.2f} ms"
    )


async def fill(folder: Path, count: int) -> None:
    writer = Writer(LocalStorage(folder), slot="fill", mode="durable")
    for start in range(0, count, 500):
        ids = [f"event-{number}" for number in range(start, start + 500)]
        await writer.append(
            [prediction(id_, at_s=start, inputs=INPUTS) for id_ in ids] + [outcome(id_, value=False) for id_ in ids]
        )
    await writer.close()


def main(place: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=place) as name:
        for clients in (1, 4, 16):
            asyncio.run(acknowledged(Path(name) / "acknowledged", clients, 3))
        folder = Path(name) / "filled"
        asyncio.run(fill(folder, 1_000_000))
        started = time.perf_counter()
        done = compact(folder, now=NOW)
        say(f"compact, {done.predictions + done.outcomes:,} records: {time.perf_counter() - started:.2f} s")
        asyncio.run(fill(folder, 20_000))
        for act, sql in {
            "totals": None,
            "live predictions with their truth": "SELECT count(*) FROM judged",
            "one prediction by its id": "SELECT * FROM predictions WHERE id = 'event-77'",
        }.items():
            started = time.perf_counter()
            if sql is None:
                totals(folder)
            else:
                ask(folder, sql)
            say(f"1,000,000 predictions, 40,000 records not compacted: {act} {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:2] or [None])
