"""The bars of drift and performance at small size: ours keeps to every bound, the naive tests to none."""

from __future__ import annotations

import pytest

from benchmarks.statistics.frame import bars
from benchmarks.statistics.naive import NAIVE
from benchmarks.statistics.ours import OURS


@pytest.mark.parametrize("number", [11, 12, 13, 17])
def test_ours_keeps_to_the_bounds_and_the_naive_tests_to_none(number: int) -> None:
    [bar] = bars(number).values()
    assert [figure.name for figure in bar.run(replications=bar.SMALL, test=OURS) if not figure.passed] == []
    assert [figure.name for figure in bar.run(replications=bar.SMALL, test=NAIVE) if figure.passed] == []
