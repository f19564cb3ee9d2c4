"""Objects that are half written, replaced, refused or gone, and more of them than a page holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bucket_project import NOW, delays, project_at, trips
from stores import running

from passerelle.adapters import objectstore
from passerelle.adapters.objectstore import Store, open_store
from passerelle.data import bucket
from passerelle.errors import DataError, StoreError
from passerelle.loop.tick import land

AT = "s3://passerelle-tests/faults"


@pytest.fixture(scope="module", autouse=True)
def s3() -> Iterator[None]:
    """A store whose pages hold seven objects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
        with running("s3") as variables:
            for name, value in variables.items():
                patch.setenv(name, value)
            yield


def later() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=2)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_all_pages_are_read(tmp_path: Path) -> None:
    at = open_store(f"{AT}/pages")
    for number in range(25):
        at.put(f"trips-{number:02d}.csv", trips(number, number + 1))
    found = bucket.fetch(project_at(tmp_path / "trips", at.address), machine=later)
    assert names(found) == [f"trips-{number:02d}.csv" for number in range(25)]


def test_an_object_that_is_still_written_over_is_waited_for(tmp_path: Path) -> None:
    at = open_store(f"{AT}/written")
    project = project_at(tmp_path / "trips", at.address)
    for last in (5, 10, 15):  # another content at each look
        at.put("trips-1.csv", trips(0, last))
        assert bucket.fetch(project) == []
    assert names(bucket.fetch(project)) == ["trips-1.csv"]
    assert (project.root / "deliveries" / "trips-1.csv").read_bytes() == trips(0, 15)


def test_what_is_replaced_between_list_and_get_lands_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_store(f"{AT}/replaced")
    at.put("trips-1.csv", trips(0, 10))
    project = project_at(tmp_path / "trips", at.address)
    get_file = Store.get_file

    def replaced(self: Store, key: str, path: Path) -> bool:
        at.put(key, trips(0, 20))
        return get_file(self, key, path)

    with monkeypatch.context() as patch:
        patch.setattr(objectstore.Store, "get_file", replaced)
        assert names(bucket.fetch(project, machine=later)) == ["trips-1.csv"]
    assert (project.root / "deliveries" / "trips-1.csv").read_bytes() == trips(0, 20)
    assert names(bucket.fetch(project, machine=later)) == ["trips-1.csv"]  # its mark is a new one: over itself
    assert names(list((project.root / "deliveries").iterdir())) == ["trips-1.csv"]
    assert bucket.fetch(project, machine=later) == []


@pytest.mark.parametrize("what", ["gone", "refused"])
def test_one_object_that_cannot_be_had_keeps_back_its_own_batch_only(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "SETTLED", timedelta(seconds=-5))
    at = open_store(f"{AT}/{what}")
    at.put("a/trips.csv", trips(0, 10))
    at.put("a/delays.csv", delays(0, 10))
    at.put("trips-z.csv", trips(10, 30))
    project = project_at(tmp_path / "trips", at.address)
    get_file = Store.get_file

    def refusing(self: Store, key: str, path: Path) -> bool:
        if key == "a/trips.csv":
            if what == "gone":
                at.delete(key)
            else:
                self._fail("read", key, OSError("status code: 403 Forbidden: <Code>AccessDenied</Code>"))
        return get_file(self, key, path)

    with monkeypatch.context() as patch:
        patch.setattr(objectstore.Store, "get_file", refusing)
        kind, said = {
            "gone": (DataError, "a/trips.csv was removed while it was fetched"),
            "refused": (StoreError, "a/trips.csv cannot be read: 403 Forbidden, AccessDenied. It needs s3:GetObject"),
        }[what]
        with pytest.raises(kind, match=said):
            bucket.fetch(project)
        assert names(list((project.root / "deliveries").iterdir())) == ["trips-z.csv"]  # no half of a batch
        landed = land(project, now=NOW)
        if what == "refused":
            assert said in (landed.problem or "")
    rest = names(bucket.fetch(project))
    assert rest == (["delays.csv", "trips.csv"] if what == "refused" else [])
