"""The examples in the page of the trial run as they stand there."""

import doctest
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_pages_examples_run() -> None:
    found = doctest.testfile(str(ROOT / "docs" / "trial.md"), module_relative=False)
    assert found.attempted == 5
    assert found.failed == 0
