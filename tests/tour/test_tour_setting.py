"""The project that is lived: its deliveries, what is changed in it on the way, and what cannot be lived."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from passerelle.errors import DataError, SettingsError
from passerelle.project.scaffold import create
from passerelle.project.settings import load_project
from passerelle.state.lease import LeaseError, lease
from passerelle.tour.living import _days
from passerelle.tour.script import Incident, Script, load_script
from passerelle.tour.setting import PROJECT, UNFINISHED, change, deliveries, land, prepare

TODAY = datetime(2026, 3, 2, tzinfo=UTC).date()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A project with three deliveries, a table that comes once, and a script."""
    folder = tmp_path / "shop"
    create(folder, "shop", task="binary", language="en", time=True, today=TODAY)
    inbox = folder / "deliveries"
    sample = min(inbox.glob("events-*")).read_text()
    for path in inbox.iterdir():
        path.unlink()
    for month in ("2025-01", "2025-02", "2025-03"):
        (inbox / f"events-{month}.csv").write_text(sample)
        (inbox / f"outcomes-{month}.csv").write_text("parcel,late,known_at\n")
    (inbox / "shops.csv").write_text("shop\nA\n")
    return folder


def test_files_of_one_stamp_land_together_and_the_rest_with_the_first(source: Path, tmp_path: Path) -> None:
    project, script, goes_on = prepare(source, tmp_path / "out", months=None)
    assert (script, goes_on) == (Script(), False)
    there = deliveries(project, tmp_path / "out")
    assert [(one.stamp, [path.name for path in one.files]) for one in there] == [
        ("2025-01", ["events-2025-01.csv", "outcomes-2025-01.csv", "shops.csv"]),
        ("2025-02", ["events-2025-02.csv", "outcomes-2025-02.csv"]),
        ("2025-03", ["events-2025-03.csv", "outcomes-2025-03.csv"]),
    ]
    assert list((project.root / "deliveries").iterdir()) == []
    (project.root / "bad.csv").write_text("x\n")
    land(project, there[1], [Incident(period="2025-03", sentence="a bad file", deliver="bad.csv")])
    landed = sorted(path.name for path in (project.root / "deliveries").iterdir())
    assert landed == ["bad.csv", "events-2025-02.csv", "outcomes-2025-02.csv"]


def test_incidents_change_notebook_and_settings_until_they_are_over(source: Path, tmp_path: Path) -> None:
    project, _, _ = prepare(source, tmp_path / "out", months=None)
    before = (project.root / "passerelle.toml").read_text()
    (project.root / "notebooks/leaking.ipynb").write_text("{}")
    incidents = [
        Incident(period="x", sentence="leaks", notebook="notebooks/leaking.ipynb"),
        Incident(period="x", sentence="splits", settings={"trial": {"mode": "split"}}),
    ]
    change(project, tmp_path / "out", incidents)
    changed = load_project(project.root / "passerelle.toml")
    assert (changed.notebook.path, changed.trial.mode) == ("notebooks/leaking.ipynb", "split")
    change(project, tmp_path / "out", ())
    assert (project.root / "passerelle.toml").read_text() == before
    with pytest.raises(SettingsError, match=r"tour\.toml names notebooks/none\.ipynb"):
        change(project, tmp_path / "out", [Incident(period="x", sentence="s", notebook="notebooks/none.ipynb")])


def test_a_cut_tour_goes_on_with_what_it_began_with_or_not_at_all(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(source, out, months=2)
    assert prepare(source, out, months=2)[2] is True
    other = tmp_path / "other"
    shutil.copytree(source, other)
    for wrong, months in ((other, 2), (source, None)):
        with pytest.raises(SettingsError, match=rf"another tour was cut in .*--months 2 -o {out}"):
            prepare(wrong, out, months=months)


def test_what_cannot_be_lived_is_refused_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in (source / "deliveries").glob("outcomes-*"):
        path.unlink()
    with pytest.raises(DataError, match="it holds no outcomes"):
        prepare(source, out, months=None)
    assert not (out / UNFINISHED).exists()
    (source / "deliveries/events-2025-02.csv").unlink()
    (source / "deliveries/events-2025-03.csv").unlink()
    with pytest.raises(DataError, match=r"needs two deliveries of events .* there are 1"):
        prepare(source, out, months=None)
    timeless = tmp_path / "timeless"
    create(timeless, "timeless", task="binary", language="en", time=False, today=TODAY)
    with pytest.raises(SettingsError, match=r"name the main table's time column as task\.time"):
        prepare(timeless, out, months=None)


def test_what_somebody_runs_is_not_thrown_away(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    project, _, _ = prepare(source, out, months=None)
    (out / UNFINISHED).unlink()
    with lease(project.state, "loop"), pytest.raises(LeaseError):
        prepare(source, out, months=None)
    assert (out / PROJECT / "passerelle.toml").exists()


def test_a_script_that_prepares_the_deliveries_is_run_and_its_failure_said(source: Path, tmp_path: Path) -> None:
    (source / "tour.toml").write_text('prepare = ["make.py"]\n')
    (source / "make.py").write_text("raise SystemExit('the shelf is empty')\n")
    with pytest.raises(SettingsError, match=r"make\.py, which tour\.toml runs to prepare, failed: the shelf is empty"):
        prepare(source, tmp_path / "out", months=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[incidents]]\nperiod = '1'\n", "missing required field `sentence`"),
        ("[value]\nfrom = '1'\n", "unknown field `from`"),
        ("prepare = [", "tour.toml"),
    ],
)
def test_a_wrong_script_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "tour.toml").write_text(text)
    with pytest.raises(SettingsError, match=said.replace("`", ".")):
        load_script(tmp_path)


def test_days_go_from_noon_to_noon() -> None:
    since, until = datetime(2013, 2, 1, 8, tzinfo=UTC), datetime(2013, 2, 3, 7, tzinfo=UTC)
    noons = [datetime(2013, 2, day, 12, tzinfo=UTC) for day in (1, 2)]
    assert list(_days(since, until)) == [(since, noons[0]), (noons[0], noons[1]), (noons[1], until)]
