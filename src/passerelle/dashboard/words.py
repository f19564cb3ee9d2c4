"""Words: moments, counts and figures as a person reads them. Moments are in UTC; a year is said where it is another."""

from __future__ import annotations

import math
from datetime import UTC, datetime

#: Stands for a figure that there is not.
NONE = "\N{EN DASH}"
#: As wide as a plus, so that columns align.
MINUS = "\N{MINUS SIGN}"


def day(moment: datetime, *, now: datetime) -> str:
    """The day of a moment, with the year if it is not this one's.

    >>> day(datetime(2013, 3, 2, 12, tzinfo=UTC), now=datetime(2013, 7, 1, tzinfo=UTC))
    '2 March'
    >>> day(datetime(2013, 3, 2, 12, tzinfo=UTC), now=datetime(2026, 7, 1, tzinfo=UTC))
    '2 March 2013'
    """
    at = moment.astimezone(UTC)
    said = f"{at.day} {at:%B}"
    return said if at.year == now.astimezone(UTC).year else f"{said} {at.year}"


def minute(moment: datetime, *, now: datetime) -> str:
    """The day and the minute of a moment.

    >>> minute(datetime(2013, 3, 2, 12, 5, tzinfo=UTC), now=datetime(2013, 7, 1, tzinfo=UTC))
    '2 March, 12:05 UTC'
    """
    return f"{day(moment, now=now)}, {moment.astimezone(UTC):%H:%M} UTC"


def figure(value: float | None) -> str:
    """A figure with four digits that count; a dash for none.

    >>> [figure(value) for value in (0.0123456, 1234.5, 0.0, 3.2e9)]
    ['0.01235', '1,234', '0', '3.2e+09']
    >>> figure(None) == figure(float("nan")) == NONE
    True
    """
    if value is None or not math.isfinite(value):
        return NONE
    if value != 0 and not 1e-5 <= abs(value) < 1e7:  # noqa: PLR2004  (beyond, an exponent reads better)
        return f"{value:.3g}"
    whole = abs(value) >= 1000  # noqa: PLR2004  (from here, decimal places say nothing)
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def difference(value: float | None, decimals: int | None = None) -> str:
    """A figure with its sign; a true minus, so that columns align.

    With ``decimals``, that many places, so that a column aligns.

    >>> difference(0.00234567), difference(0.0), difference(0.0041, 5)
    ('+0.00235', '0', '+0.00410')
    >>> difference(-0.002) == MINUS + "0.002"
    True
    """
    if value is None or not math.isfinite(value):
        return figure(value)
    text = f"{abs(value):.3g}" if decimals is None else f"{abs(value):.{decimals}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else MINUS
    return sign + text


def places(step: float) -> int:
    """Decimal places that show two digits of a step.

    >>> places(0.0042), places(3.0), places(250.0)
    (4, 1, 0)
    """
    return max(0, 1 - math.floor(math.log10(step)))


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and what it counts.

    >>> counted(1, "alert"), counted(1200, "day"), counted(0, "delivery", "deliveries")
    ('1 alert', '1,200 days', 'no deliveries')
    """
    word = one if number == 1 else many or f"{one}s"
    return f"{number:,} {word}" if number else f"no {word}"


def listed(words: list[str]) -> str:
    """Some words in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def capital(sentence: str) -> str:
    """A sentence with its first letter large.

    >>> capital("version 4 answers")
    'Version 4 answers'
    """
    return sentence[:1].upper() + sentence[1:]
