"""A writer's process for the tests: appends without end, and says each id once it is acknowledged.

Usage: python writing.py FOLDER SLOT MODE ROUND
"""

import asyncio
import sys
from pathlib import Path

from making import prediction

from passerelle.ledger.segments import Writer
from passerelle.ledger.storage import LocalStorage


async def write(folder: Path, slot: str, mode: str, round_: str) -> None:
    writer = Writer(LocalStorage(folder), slot=slot, mode=mode, roll_bytes=200_000)

    async def client(number: int) -> None:
        count = 0
        while True:
            ids = [f"{round_}-{slot}-{number}-{count + place}" for place in range(10)]
            await writer.append([prediction(id_) for id_ in ids])
            count += 10
            sys.stdout.write("".join(f"{id_}\n" for id_ in ids))
            sys.stdout.flush()
            if mode == "async":
                await asyncio.sleep(0.001)

    await asyncio.gather(*(client(number) for number in range(4)))


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), *sys.argv[2:]))
