"""The table of figures on docs/statistics.md, from the lines that the bars have left.

python -m benchmarks.statistics.page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.statistics.frame import FOLDER, RESULTS

PAGE = FOLDER.parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->"


def table(results: Path = RESULTS) -> str:
    """The figures at full size as a table: of each the newest line, ours and the naive method's."""
    newest: dict[str, dict[str, Any]] = {}
    for text in results.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        kept = newest.setdefault(line["name"], {"bar": line["bar"]})
        if line["replications"] >= kept.get(line["methods"], {}).get("replications", 0):
            kept[line["methods"]] = line
    rows = ["| bar | figure | ours | held to | naive |", "|---|---|---|---|---|"]
    for name, kept in sorted(newest.items(), key=lambda item: item[1]["bar"]):
        if "ours" not in kept:
            continue
        ours, other = kept["ours"], kept.get("naive")
        sign = "≥" if _least(ours, other) else "≤"
        beside = "" if other is None else f"{_short(other['value'])}{'' if other['passed'] else ' ✗'}"
        number = int(kept["bar"][3:5])
        rows.append(f"| {number} | {name} | {_short(ours['value'])} | {sign} {_short(ours['bound'])} | {beside} |")
    return "\n".join(rows)


def _least(ours: dict[str, Any], other: dict[str, Any] | None) -> bool:
    """Is the bound one that a figure must reach?"""
    return any(line["passed"] != (line["value"] <= line["bound"]) for line in (ours, other) if line is not None)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004  (digits)


def write_table(page: Path = PAGE) -> None:
    """Put the table between its two marks on the page."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    page.write_text(f"{head}{BEGIN}{table()}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    write_table()
