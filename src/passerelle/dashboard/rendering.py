"""Rendering: a page's values as HTML, everything escaped, or as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup, escape

from passerelle.dashboard import words
from passerelle.dashboard.drawing import Figure

#: Between "version" or "day" and a number, and between a day and its month.
_TIED = re.compile(r"(?<=\b[Vv]ersion) (?=\d)|(?<=\bday) (?=\d)|(?<=\d) (?=[A-Z][a-z]{2})")
TIE = "\N{NO-BREAK SPACE}"
_CODE = re.compile(r"`([^`]+)`")


def render(template: str, **values: Any) -> str:
    """A template with these values, whole: a value that is missing is an error, not a blank."""
    return _TEMPLATES.get_template(template).render(**values)


def as_json(page: msgspec.Struct) -> bytes:
    """A page's values for a program; moments in UTC."""
    return msgspec.json.encode(page, enc_hook=str)


def figure_json(figure: Figure) -> str:
    """A figure, to stand in an attribute."""
    return json.dumps(figure, separators=(",", ":"), allow_nan=False)


def moment(at: datetime, now: datetime, how: str = "minute") -> Markup:
    """A moment as an element of time: for people in words, for programs in UTC.

    >>> str(moment(datetime(2013, 3, 2, 12, tzinfo=UTC), datetime(2013, 7, 1, tzinfo=UTC), "day"))
    '<time datetime="2013-03-02T12:00:00Z" title="2013-03-02 12:00:00 UTC">2 March</time>'
    """
    said = words.day(at, now=now) if how == "day" else words.minute(at, now=now)
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S} UTC", said
    )


def rounded_up(share: float) -> str:
    """A share with three decimals, or as many as two digits of it need, and no less than it is.

    >>> rounded_up(0.0361), rounded_up(0.0000361), rounded_up(1.0)
    ('0.037', '0.000037', '1')
    """
    step = 10.0 ** min(-3, math.floor(math.log10(share)) - 1)
    return f"{math.ceil(share / step - 1e-9) * step:.10f}".rstrip("0").rstrip(".")


def tied(sentence: str) -> str:
    """A sentence in which a number stays on the line of what it counts.

    >>> tied("Version 4 answers since 30 May").replace(TIE, "~")
    'Version~4 answers since 30~May'
    """
    return _TIED.sub(TIE, sentence)


def coded(sentence: str) -> Markup:
    """A sentence in which what stands between backticks, and the commands, are set as code.

    >>> str(coded("do `a < b` now"))
    'do <code>a &lt; b</code> now'
    """
    parts = _CODE.split(sentence)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def _level(value: float | None, decimals: int) -> str:
    return words.figure(value) if value is None else f"{value:.{decimals}f}"


def _long_day(day: date) -> str:
    return f"{day:%A}, {day.day} {day:%B %Y}"


_FILTERS: dict[str, Callable[..., Any]] = {
    "moment": moment,
    "coded": coded,
    "figure": words.figure,
    "difference": words.difference,
    "level": _level,
    "rounded_up": rounded_up,
    "tied": tied,
    "capital": words.capital,
    "long_day": _long_day,
    "figure_json": figure_json,
}

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("passerelle.dashboard"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(_FILTERS)
