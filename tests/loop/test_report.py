"""Pages: what is put in is escaped, and nothing is fetched from elsewhere."""

from pathlib import Path

import pytest

from passerelle.loop.gate import judge
from passerelle.loop.report import chart, write_page
from passerelle.schema import Column


def test_a_run_page_escapes_what_users_wrote_and_needs_no_network(tmp_path: Path) -> None:
    gate = judge("auc", candidate=0.7, champion=None, margin=0.1, refuse_above=1, rows=5)
    write_page(
        tmp_path / "run.html",
        "run.html",
        title="<script>alert(1)</script>",
        heading="ok",
        project="p",
        run="r",
        passed=gate.passed,
        sentence=gate.sentence,
        metrics={"auc": 0.7},
        parities={},
        proofs={"skew": "<b>none</b>"},
        origin={},
        columns=[Column(name="<i>", kind="integer", minimum=1)],
        notes=["n"],
    )
    text = (tmp_path / "run.html").read_text()
    assert "<script" not in text
    assert "&lt;b&gt;none&lt;/b&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    assert list(tmp_path.iterdir()) == [tmp_path / "run.html"]


def test_a_missing_value_is_an_error_not_a_blank(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="undefined"):
        write_page(tmp_path / "run.html", "run.html", title="t")
    assert not list(tmp_path.iterdir())


def test_a_chart_puts_values_where_they_belong() -> None:
    drawn = str(chart({"<a>": [0.0, 1.0]}, ["x", "y"]))
    assert 'points="50.0,230.0 780.0,15.0"' in drawn
    assert "&lt;a&gt;" in drawn
