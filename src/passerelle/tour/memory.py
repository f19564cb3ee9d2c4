"""Memory: the most that this process and all below it have held together, looked at once a second (Linux)."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_EVERY_S = 1.0


class Memory:
    """Looks while the with block lasts; ``peak_mib`` is 0 where the system does not tell.

    Resident memory, shared pages counted once for each process: never less than what is really held.
    """

    def __init__(self) -> None:
        self.peak_mib = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.peak_mib = max(self.peak_mib, held_mib(os.getpid()))
            if self._ends.wait(_EVERY_S):
                return


def held_mib(root: int) -> int:
    """What a process and all below it hold now, in MiB; 0 where there is no /proc.

    >>> held_mib(os.getpid()) > 0 or not Path("/proc").exists()
    True
    """
    children: dict[int, list[int]] = defaultdict(list)
    pages: dict[int, int] = {}
    for folder in _PROC.glob("[0-9]*"):
        try:
            after = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            pages[int(folder.name)] = int((folder / "statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended while we looked
        children[int(after[1])].append(int(folder.name))
    held, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        held += pages.get(process, 0)
        waiting += children[process]
    return held * os.sysconf("SC_PAGE_SIZE") // 2**20 if pages else 0
