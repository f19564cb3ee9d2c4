"""The page of the statistics: its examples run, its table is what the bars left, its pictures are light."""

import doctest
import json
import re
from pathlib import Path

from benchmarks.statistics.frame import RESULTS
from benchmarks.statistics.page import BEGIN, END, PAGE, table

IMAGES = Path(PAGE).parent / "images"


def test_its_examples_run() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert (found.attempted, found.failed) == (26, 0)


def test_its_table_is_what_the_bars_left() -> None:
    shown = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert shown.strip() == table(), "write it anew: python -m benchmarks.statistics.page"
    ours = [line.split(" | ") for line in shown.splitlines()[2:]]
    assert {int(line[0].strip("| ")) for line in ours} >= set(range(1, 19))


def test_every_bar_was_kept_by_ours_and_missed_by_the_naive_but_where_only_speed_is_asked() -> None:
    shown = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in shown.splitlines()[2:]]
    missed = {int(row[0]) for row in rows if "✗" in row[-1]}
    assert missed == set(range(1, 19)) - {3, 14}
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    assert [line["name"] for line in lines if line["methods"] == "ours" and not line["passed"]] == []


def test_its_pictures_are_there_and_light() -> None:
    pictures = re.findall(r"\]\(images/(statistics-\w+\.svg)\)", PAGE.read_text(encoding="utf-8"))
    assert len(pictures) == 10
    assert [name for name in pictures if (IMAGES / name).stat().st_size > 50_000] == []
