"""``python -m benchmarks.statistics``: print each figure, append it to the results, fail if one is missed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.statistics.frame import RESULTS, Figure, bars
from benchmarks.statistics.naive import NAIVE
from benchmarks.statistics.ours import OURS


def main(arguments: list[str] | None = None) -> int:
    """0 if every figure keeps to its bound, 1 if one does not, 2 for a bar that does not exist."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=__doc__)
    parser.add_argument("--small", action="store_true", help="few replications: a look, not a proof")
    parser.add_argument("--bar", type=int, help="one bar, by its number")
    parser.add_argument("--naive", action="store_true", help="the naive methods: they are expected to fail")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the lines are appended")
    asked = parser.parse_args(arguments)
    chosen = bars(asked.bar)
    if not chosen:
        parser.error(f"there is no bar {asked.bar}")
    test, missed = NAIVE if asked.naive else OURS, 0
    for name, module in chosen.items():
        replications = module.SMALL if asked.small else module.FULL
        began = time.perf_counter()
        figures = module.run(replications=replications, test=test)
        seconds = time.perf_counter() - began
        with asked.results.open("a", encoding="utf-8") as lines:
            for figure in figures:
                said = {"bar": name, "methods": test.name, "replications": replications, **figure._asdict()}
                lines.write(json.dumps(said, allow_nan=True) + "\n")
        for figure in figures:
            print(_line(figure), flush=True)
        print(f"  {name}: {len(figures)} figures of {replications} replications in {seconds:.0f} s", flush=True)
        missed += sum(not figure.passed for figure in figures)
    print(f"{missed} missed" if missed else "every figure keeps to its bound")
    return 1 if missed else 0


def _line(figure: Figure) -> str:
    return f"{'pass' if figure.passed else 'FAIL'}  {figure.name}: {figure.value:.4g} (bound {figure.bound:.4g})"


if __name__ == "__main__":
    sys.exit(main())
