"""The bars of the trials' statistics, small: ours keep them, and each naive part alone fails its own.

At full size: make soak. Bar 14 is of time, which no test judges; bars 11 to 13 are of monitoring.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.statistics.__main__ import main
from benchmarks.statistics.frame import Figure, bars
from benchmarks.statistics.naive import NAIVE
from benchmarks.statistics.ours import OURS

#: Bar → replications here.
SIZES = {1: 80, 2: 60, 3: 40, 4: 50, 5: 60, 6: 60, 7: 30, 8: 150, 9: 400, 10: 40, 15: 200, 16: 40, 18: 40}


def figures(bar: int, replications: int, **parts: object) -> list[Figure]:
    (module,) = bars(bar).values()
    return module.run(replications=replications, test=OURS._replace(**parts))  # type: ignore[arg-type]


@pytest.mark.parametrize("bar", SIZES)
def test_ours_keep_the_bar(bar: int) -> None:
    assert [figure for figure in figures(bar, SIZES[bar]) if not figure.passed] == []


@pytest.mark.parametrize(
    ("bar", "part", "replications"),
    [
        (1, "paired", 60),
        (2, "paired", 60),
        (4, "split", 30),
        (5, "split", 20),
        (6, "paired", 40),
        (7, "split", 20),
        (7, "cohort", 20),
        (8, "split", 60),
        (8, "units", 150),
        (9, "ratio", 400),
        (10, "paired", 40),
        (15, "blocks", 100),
        (18, "breaker", 40),
    ],
)
def test_a_naive_part_fails_the_bar(bar: int, part: str, replications: int) -> None:
    assert [figure for figure in figures(bar, replications, **{part: getattr(NAIVE, part)}) if not figure.passed]


def test_the_command_prints_and_keeps_each_figure_and_fails_where_one_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "figures.jsonl"
    asked = ["--small", "--bar", "9", "--results", str(results)]
    assert main(asked) == 0
    assert "pass  sample ratio, as planned: ever alarmed: " in capsys.readouterr().out
    assert main([*asked, "--naive"]) == 1
    assert "FAIL  sample ratio, as planned: ever alarmed: " in capsys.readouterr().out
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["methods"] for line in lines] == ["ours"] * 3 + ["naive"] * 3
    assert set(lines[0]) == {"bar", "methods", "replications", "name", "value", "bound", "passed"}
    with pytest.raises(SystemExit) as wrong:
        main(["--bar", "99"])
    assert wrong.value.code == 2
