"""A slip in an environment's name is told as such, by every verb that reads what was deployed there."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from passerelle.cli import main
from passerelle.project.scaffold import create


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve",), "nowhere has no revision yet: make one with passerelle deploy VERSION --to nowhere."),
        (("score", "rows.csv", "-o", "out.csv"), "nothing is deployed in nowhere: passerelle deploy VERSION --to"),
        (("outcomes", "rows.csv"), "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere."),
        (("rollback",), "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere."),
        (("ledger",), "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere."),
    ],
    ids=lambda value: value[0],
)
def test_an_environment_without_revisions_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    folder = tmp_path / "shop"
    create(folder, "shop", task="binary", language="en", time=True, today=date(2026, 3, 2))
    (folder / "rows.csv").write_text("parcel,late,known_at\nP1,true,2025-01-07T00:00:00Z\n")
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, [*arguments, "--to", "nowhere"])
    assert result.exit_code == 1
    assert said in result.output
    assert not list((folder / ".passerelle").glob("*/nowhere"))
