"""An endpoint elsewhere, for tests: writes days of a trial to a ledger's address, and says each batch once it is kept.

Usage: python store_writing.py ADDRESS SLOT FROM TO. Batches FROM to TO (-1: to the end) of those that trial_days makes.
"""

import asyncio
import sys
from pathlib import Path

from trial_days import days

from passerelle.ledger.records import Record
from passerelle.ledger.segments import Writer
from passerelle.ledger.storage import open_storage

DAYS = 6
BATCH = 12


def batches() -> list[list[Record]]:
    """The records of the trial, in batches."""
    records = [record for day in days(DAYS, worse=0.2) for record in day]
    return [records[first : first + BATCH] for first in range(0, len(records), BATCH)]


async def write(address: str, slot: str, mine: list[list[Record]]) -> None:
    """Append each batch durably, then say its number."""
    writer = Writer(open_storage(address, Path("unused")), slot=slot, mode="durable")
    for number, batch in enumerate(mine):
        await writer.append(batch)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    await writer.close()


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], batches()[int(sys.argv[3]) : int(sys.argv[4])]))
