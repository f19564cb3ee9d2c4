"""New data in a bucket: it lands once, whatever is killed, and a fresh folder elsewhere gets the same rows."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bucket_project import NOW, delays, project_at, trips
from stores import running

from passerelle.adapters.objectstore import Store, open_store
from passerelle.data import bucket
from passerelle.data.table import read, snapshot
from passerelle.loop.tick import land
from passerelle.project.settings import Project

pytest_plugins = ["store_fixtures"]
HERE = Path(__file__).parent


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every object is settled at once."""
    monkeypatch.setattr(bucket, "SETTLED", timedelta(seconds=-5))


def rows(project: Project) -> dict[str, int]:
    """Table → its accepted rows."""
    return {name: read(project, name, version).num_rows for name, version in snapshot(project).tables.items()}


def fill(at: Store) -> None:
    at.put("2013-02-01/trips.csv", trips(0, 40))
    at.put("2013-02-01/delays.csv", delays(0, 40))
    at.put("trips-2013-02-02.csv", trips(40, 60))
    at.put("_SUCCESS", b"")
    at.put("2013-02-01/.hidden", b"x")


@pytest.mark.usefixtures("quick")
def test_what_lies_in_a_bucket_lands_once(address: str, tmp_path: Path) -> None:
    project = project_at(tmp_path / "trips", address)
    at = open_store(address)
    fill(at)
    before = sorted(at.list())
    landed = land(project, now=NOW)
    assert (landed.problem, len(landed.deliveries)) == (None, 2)
    assert rows(project) == {"trips": 60, "delays": 40}
    assert land(project, now=NOW).deliveries == ()
    at.put("2013-02-01/delays-again.csv", delays(40, 60))  # a batch grows
    at.put("trips-2013-02-02.csv", trips(60, 70))  # and a name is written over
    assert len(land(project, now=NOW).deliveries) == 2
    assert rows(project) == {"trips": 70, "delays": 60}
    at.put("trips-bad.csv", b"id,at,distance\n70,never,far\n")
    [refused] = land(project, now=NOW).deliveries
    assert "trips-bad.csv" in refused
    assert land(project, now=NOW).deliveries == ()
    assert rows(project) == {"trips": 70, "delays": 60}
    assert {found.key for found in at.list()} >= {found.key for found in before}, "nothing is deleted in the bucket"


def test_an_object_is_settled_after_two_looks_or_a_minute(address: str, tmp_path: Path) -> None:
    project = project_at(tmp_path / "trips", address)
    at = open_store(address)
    at.put("x/trips.csv", trips(0, 10))
    assert bucket.fetch(project) == []
    at.put("x/delays.csv", delays(0, 10))
    assert bucket.fetch(project) == [], "the batch grew since the look before"
    assert len(bucket.fetch(project)) == 2
    at.put("trips-2.csv", trips(10, 20))
    later = datetime.now(UTC) + timedelta(minutes=2)
    assert [path.name for path in bucket.fetch(project, machine=lambda: later)] == ["trips-2.csv"]
    assert bucket.fetch(project, machine=lambda: later) == []


@pytest.mark.usefixtures("quick")
def test_a_file_of_the_same_name_in_the_inbox_is_kept(address: str, tmp_path: Path) -> None:
    project = project_at(tmp_path / "trips", address)
    (project.root / "deliveries").mkdir()
    (project.root / "deliveries" / "trips-1.csv").write_bytes(trips(0, 10))
    at = open_store(address)
    at.put("trips-1.csv", trips(10, 20))
    at.put("delays-1.csv", delays(0, 20))
    land(project, now=NOW)
    assert rows(project) == {"trips": 20, "delays": 20}
    names = sorted(path.name for path in (project.root / "deliveries").iterdir() if not path.name.startswith("."))
    assert names == ["delays-1.csv", "trips-1-2.csv", "trips-1.csv"]


def test_a_bucket_that_is_away_is_told_and_stops_nothing(cloud: str, tmp_path: Path) -> None:
    project = project_at(tmp_path / "trips", f"{cloud}://no-such-bucket/x")
    (project.root / "deliveries").mkdir()
    (project.root / "deliveries" / "trips-1.csv").write_bytes(trips(0, 10))
    landed = land(project, now=NOW)
    assert len(landed.deliveries) == 1
    assert f"{cloud}://no-such-bucket/x cannot be listed: " in (landed.problem or "")


def test_a_fresh_folder_elsewhere_gets_the_rows(address: str, tmp_path: Path) -> None:
    """As in a notebook of a cloud: the project's files, the bucket, and variables; two calls."""
    at = open_store(address)
    at.put("2013-02-01/trips.csv", trips(0, 40))
    at.put("2013-02-01/delays.csv", delays(0, 40))
    project = project_at(tmp_path / "fresh", address)
    passerelle = [sys.executable, "-m", "passerelle"]
    for _ in range(2):  # the second look finds it settled
        done = subprocess.run([*passerelle, "ingest"], cwd=project.root, capture_output=True, text=True, check=True)
    assert "accepted" in done.stdout
    program = "import passerelle as p; rows = p.training_data(); print(len(rows) + len(p.training_data('trips')))"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=project.root, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert int(shown.stdout.split()[-1]) > 40


def test_killed_at_any_step_nothing_lands_twice(tmp_path: Path) -> None:
    with running("s3") as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        fill(open_store("s3://passerelle-tests/kill"))
        program = [sys.executable, str(HERE / "bucket_project.py"), str(tmp_path), "s3://passerelle-tests/kill", "4"]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one.pop("killed") for one in found] == [True] * (len(found) - 1) + [False]
    assert len(found) > 6
    whole = {
        "problem": None,
        "more": [],
        "rows": {"trips": 60, "delays": 40},
        "inbox": ["2013-02-01", "trips-2013-02-02.csv"],
    }
    assert found == [whole] * len(found)
