"""Provenance: what a person declares is part of it; what is assumed in its place is the same as before it could be."""

from __future__ import annotations

from pathlib import Path

from passerelle.loop.provenance import code_digest
from passerelle.project.settings import load_project

SETTINGS = '[project]\nname = "a"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'


def _digest(folder: Path, more: str) -> str:
    (folder / "notebooks").mkdir(exist_ok=True)
    (folder / "notebooks" / "model.ipynb").write_text("{}", encoding="utf-8")
    (folder / "passerelle.toml").write_text(SETTINGS + more, encoding="utf-8")
    return code_digest(load_project(folder / "passerelle.toml"))


def test_costs_that_are_not_declared_are_those_that_are_assumed(tmp_path: Path) -> None:
    before = _digest(tmp_path, "")
    assert before == "98a0788fbf91b02628ef"  # as it was when nobody could tell: no run is made again for it
    assert _digest(tmp_path, "[costs]\n") == before
    assert _digest(tmp_path, "[costs]\nmissed = 5.0\n") != before


def test_what_is_watched_is_no_part_of_a_run(tmp_path: Path) -> None:
    assert _digest(tmp_path, '[monitoring]\nslices = ["carrier"]\n') == _digest(tmp_path, "")
