from __future__ import annotations

from typing import Any

import pytest

from passerelle.errors import SubmissionError
from passerelle.notebook.clock_reads import check_clock

SETUP = """
import datetime as dt, time
from datetime import date, datetime
from functools import partial
import numpy as np, pandas as pd
"""


def check(cell: str) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(SETUP + cell, namespace)  # noqa: S102  (the cells of a notebook)
    check_clock([namespace["features"]], namespace)


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ("def features(raw): return pd.Timestamp.now() - raw['at']", "pd.Timestamp.now"),
        ("def features(raw): return pd.Timestamp('now') - raw['at']", r"pd.Timestamp\('now'\)"),
        ("def features(raw): return pd.to_datetime('today') - raw['at']", r"pd.to_datetime\('today'\)"),
        ("def features(raw): return datetime.now(dt.UTC).year - raw['year']", "datetime.now"),
        ("def features(raw): return dt.datetime.utcnow().year - raw['year']", "dt.datetime.utcnow"),
        ("def features(raw): return date.today().year - raw['year']", "date.today"),
        ("def features(raw): return time.time() - raw['at']", "time.time"),
        ("def age(rows): return time.time_ns() - rows\nfeatures = lambda raw: raw.pipe(age)", "time.time_ns"),
        ("def features(raw):\n    from datetime import datetime as d\n    return d.now()", "d.now"),
        ("def features(raw):\n    import time as t\n    return t.time()", "t.time"),
        ("def features(raw): return [date.today() for row in raw]", "date.today"),
        (
            "class Age:\n    def of(self, raw): return date.today()\ndef features(raw): return Age().of(raw)",
            "date.today",
        ),
        ("def f(raw, m): return date.today()\nfeatures = partial(f, m=1)", "date.today"),
        ("def make():\n    d = datetime\n    return lambda raw: d.now()\nfeatures = make()", "d.now"),
    ],
)
def test_a_function_that_reads_the_clock_is_refused_with_what_to_send_instead(cell: str, read: str) -> None:
    with pytest.raises(SubmissionError, match=rf"reads the clock \({read}\): .* Send the moment as a field"):
        check(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "def features(raw): return raw['at'].dt.time",
        "def features(raw): return raw.today + raw.now + raw['now'] + raw.time.time",
        "def features(raw): return pd.to_datetime(raw['today']) - pd.Timestamp('2013-01-01')",
        "today = 3\ndef features(raw): return raw['day'] - today",
        "def features(raw):\n    time = raw['time']\n    return time.time",
        "started = pd.Timestamp.now()\ndef features(raw): return raw",
        "def features(raw):\n    begun = time.perf_counter()\n    return raw",
        "def features(raw): return dt.date(2013, 1, 1)",
    ],
)
def test_names_that_only_look_like_a_clock_are_not(cell: str) -> None:
    check(cell)
