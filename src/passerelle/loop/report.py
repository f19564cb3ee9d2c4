"""Pages for people: one template each, self-contained, readable in light and dark, on a laptop and a phone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("passerelle.loop"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def write_page(path: Path, template: str, **values: Any) -> None:
    """Render a template of this room into a file, whole or not at all. Everything in ``values`` is escaped."""
    text = _TEMPLATES.get_template(template).render(**values)
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def chart(
    series: dict[str, Sequence[float]],
    labels: Sequence[str],
    *,
    marked: Sequence[int] = (),
    width: int = 900,
    height: int = 260,
) -> Markup:
    """Lines over equal steps as an SVG, each named beside its end; labels stand under some of the steps.

    ``marked``: the steps at which the first line gets a dot, with the label as its title.

    >>> "polyline" in chart({"share": [0.1, 0.2]}, ["Feb 1", "Feb 2"])
    True
    """
    left, right, top, bottom = 50, 120, 15, 30
    most = max(max(values) for values in series.values()) or 1.0

    def across(number: int) -> float:
        return round(left + (width - left - right) * number / max(len(labels) - 1, 1), 1)

    def down(value: float) -> float:
        return round(height - bottom - (height - top - bottom) * value / most, 1)

    lines = [
        (name, colour, " ".join(f"{across(i)},{down(value)}" for i, value in enumerate(values)), down(values[-1]))
        for (name, values), colour in zip(series.items(), ("--accent", "--other", "--soft"), strict=False)
    ]
    drawn = _TEMPLATES.get_template("chart.svg").render(
        width=width,
        height=height,
        left=left,
        right=right,
        names=list(series),
        grid=[(down(share * most), f"{share * most:.3g}") for share in (0.0, 0.5, 1.0)],
        marks=[(across(number), labels[number]) for number in range(0, len(labels), max(1, len(labels) // 7))],
        dots=[(across(number), down(next(iter(series.values()))[number]), labels[number]) for number in marked],
        lines=[(name, colour, points, across(len(labels) - 1), y) for name, colour, points, y in lines],
    )
    return Markup(drawn)  # noqa: S704  (rendered by a template that escapes)
