"""A slip in an environment's name is told as such, by every verb that reads what was deployed there."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner
from living import FIRST, make_project
from shelf import Shelf

from passerelle.cli import main
from passerelle.loop.rollout import deploy
from passerelle.project.scaffold import create
from passerelle.registry.versions import Registry


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve",), "nowhere has no revision yet: make one with passerelle deploy VERSION --to nowhere."),
        (("score", "rows.csv", "-o", "out.csv"), "nothing is deployed in nowhere: passerelle deploy VERSION --to"),
        (("outcomes", "rows.csv"), "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere."),
        (("rollback",), "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere."),
        (
            ("alerts",),
            "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere. There is no environment",
        ),
        (("alerts", "--open", "--json"), "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere."),
        (("trial", "status"), "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere."),
        (("ledger",), "nothing is deployed in nowhere: passerelle deploy VERSION --to nowhere."),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "told",
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


@pytest.mark.parametrize("arguments", [("alerts",), ("trial", "status"), ("ledger",)], ids="-".join)
def test_the_environments_that_there_are_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    project = make_project(tmp_path / "orders")
    registry = cast("Registry", Shelf(project))
    for environment in ("staging", "production"):
        deploy(project, registry, 1, environment=environment, now=FIRST)
    monkeypatch.chdir(project.root)
    result = CliRunner().invoke(main, [*arguments, "--to", "produktion"])
    assert result.exit_code == 1
    assert result.output == (
        "passerelle: nothing is deployed in produktion: passerelle deploy VERSION --to produktion. "
        "The environments are production, staging.\n"
    )
    if arguments != ("ledger",):  # which wants a recorded event
        assert CliRunner().invoke(main, [*arguments, "--to", "staging"]).exit_code == 0
