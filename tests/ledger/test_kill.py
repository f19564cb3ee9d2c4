"""kill -9 of real writers under load: what was acknowledged is found, once."""

import random
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from passerelle.ledger.compaction import compact
from passerelle.ledger.segments import FLUSH_S, read_segment
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.views import ask, totals

WRITING = Path(__file__).with_name("writing.py")
NOW = datetime(2013, 3, 1, tzinfo=UTC)
ROUNDS = 12


def killed_under_load(folder: Path, slots: list[str], mode: str, number: int, seconds: float) -> list[list[str]]:
    """Start a writer for each slot, kill all after a while; the ids that each said were acknowledged."""
    processes = [
        subprocess.Popen([sys.executable, WRITING, folder, slot, mode, str(number)], stdout=subprocess.PIPE)
        for slot in slots
    ]
    said = []
    for process in processes:
        assert process.stdout is not None
        said.append([process.stdout.readline()])
    time.sleep(seconds)
    for process in processes:
        process.kill()
    for process, lines in zip(processes, said, strict=True):
        assert process.stdout is not None
        lines.extend(process.stdout.readlines())
        process.stdout.close()
        process.wait()
    return [[line.decode().rstrip("\n") for line in lines if line.endswith(b"\n")] for lines in said]


def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    seconds = random.Random(7)  # noqa: S311  (when to kill is no secret)
    for number in range(ROUNDS):
        slots = ["worker-0", "worker-1"]
        for ids in killed_under_load(tmp_path, slots, "durable", number, seconds.uniform(0.0, 0.25)):
            assert ids
            acknowledged += ids
        if number % 4 == 1:
            compact(tmp_path, now=NOW)
    for compacted in (False, True):
        if compacted:
            done = compact(tmp_path, now=NOW)
            assert done.repeated == 0
            assert totals(tmp_path).uncompacted == 0
        found = Counter(id_ for (id_,) in ask(tmp_path, "SELECT id FROM all_predictions").rows)
        assert len(acknowledged) > 1000
        assert set(acknowledged) <= set(found)
        assert {id_ for id_, times in found.items() if times > 1} == set()
        assert totals(tmp_path).predictions == len(found)
    assert LocalStorage(tmp_path).names() == []


def test_a_killed_async_writer_loses_no_more_than_its_bound(tmp_path: Path) -> None:
    """A client appends 10 records a millisecond at most, four do: the bound is a number of records too."""
    [ids] = killed_under_load(tmp_path, ["worker-0"], "async", 0, 1.0)
    storage = LocalStorage(tmp_path)
    found = {one.id for name in storage.names() for one in read_segment(storage.read(name) or b"")[0]}
    lost = set(ids) - found
    assert found
    assert len(lost) <= 4 * 10 * 1000 * (2 * FLUSH_S)
    # What is lost is the end, and nothing before it.
    for client in range(4):
        mine = [id_ in found for id_ in ids if id_.startswith(f"0-worker-0-{client}-")]
        assert mine == sorted(mine, reverse=True)
