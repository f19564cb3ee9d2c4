"""Types that msgspec learns: two threads at once, in a process of its own, which a mistake would end."""

from __future__ import annotations

import subprocess
import sys

#: Fresh types again and again, each first decoded into by four threads at the same moment.
RACE = """
import sys, threading, msgspec
from passerelle.decoding import prepared
sys.setswitchinterval(1e-6)

def types():
    class Leaf(msgspec.Struct):
        at: float = 0.0
    class Branch(msgspec.Struct):
        leaves: dict[str, Leaf] = {}
    class Tree(msgspec.Struct):
        name: str | None = None
        branches: list[Branch] = []
    return Tree

def decode(kind, barrier):
    barrier.wait()
    found.append(msgspec.json.decode(b'{"name": "n", "branches": [{"leaves": {"a": {"at": 1.5}}}]}', type=HOW(kind)))

found, rounds = [], 150
for _ in range(rounds):
    kind, barrier = types(), threading.Barrier(4)
    threads = [threading.Thread(target=decode, args=(kind, barrier)) for _ in range(4)]
    [one.start() for one in threads]
    [one.join() for one in threads]
assert len(found) == 4 * rounds and all(one.branches[0].leaves["a"].at == 1.5 for one in found)
"""


def race(how: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", RACE.replace("HOW", how)], capture_output=True, timeout=120, check=False
    ).returncode


def test_threads_that_decode_into_a_new_type_at_once_all_succeed() -> None:
    assert race("prepared") == 0


def test_without_it_they_do_not() -> None:
    """When this fails, msgspec has mended it: prepared can go."""
    assert race("(lambda kind: kind)") != 0
