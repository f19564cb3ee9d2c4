"""Object stores, as real servers and as a folder: what is put is there, whole; what fails says where and why."""

from pathlib import Path

import pytest
from stores import BUCKET

from passerelle.adapters.objectstore import get_folder, open_store, put_folder
from passerelle.errors import LedgerError, StoreError
from passerelle.ledger.storage import open_storage

pytest_plugins = ["store_fixtures"]


def test_objects(address: str) -> None:
    at = open_store(address + "/")
    key = "a/b c#ü+%41.bin"
    assert at.put(key, b"one", only_new=True)
    assert not at.put(key, b"two", only_new=True)
    assert at.get(key) == b"one"
    assert at.get("a") is None
    [before] = at.list()
    assert (before.key, before.size_bytes) == (key, 3)
    at.put(key, b"three")
    [after] = at.list("a")
    assert after.mark != before.mark
    assert (after.size_bytes, list(at.list("b"))) == (5, [])
    at.delete(key)
    at.delete(key)
    assert list(at.list()) == []


def test_many_objects_are_listed_in_pages(address: str) -> None:
    at = open_store(address)
    for number in range(12):
        at.put(f"{number:02d}", b"x")
    assert sorted(found.key for found in at.list()) == [f"{number:02d}" for number in range(12)]


def test_folders(address: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "x" / "y").mkdir(parents=True)
    (made / "x" / "y" / "z").write_bytes(b"z" * 1000)
    (made / "empty").touch()
    put_folder(address, made)
    back = tmp_path / "back"
    get_folder(address, back)
    (back / "left over").touch()
    get_folder(address, back)
    assert {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*") if path.is_file()} == {
        "x/y/z": b"z" * 1000,
        "empty": b"",
    }
    with pytest.raises(StoreError, match=f"there is nothing at {address}/nothing: see"):
        get_folder(address + "/nothing", back)
    assert (back / "empty").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "made"]


def test_a_large_file_goes_in_parts(address: str, cloud: str, tmp_path: Path) -> None:
    parts = 1 if cloud == "gs" else 150  # the emulator of gs takes no multipart uploads
    content = bytes(range(256)) * 1000 * parts
    (tmp_path / "one").write_bytes(content)
    at = open_store(address)
    at.put("one", tmp_path / "one")
    assert at.get_file("one", tmp_path / "new" / "two")
    assert (tmp_path / "new" / "two").read_bytes() == content
    assert not at.get_file("three", tmp_path / "three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "one"]


def test_a_missing_bucket_is_named_with_the_permission(cloud: str) -> None:
    missing = f"{cloud}://missing-{BUCKET}/x"
    needed = {"s3": "s3:PutObject", "az": "Storage Blob Data Contributor", "gs": "storage.objects.create"}[cloud]
    with pytest.raises(StoreError, match=rf"{missing}/key cannot be written: 404 Not Found.* It needs {needed}"):
        open_store(missing).put("key", b"")
    with pytest.raises(LedgerError, match=f"slot 'worker-0' cannot be claimed: {missing}"):
        open_storage(missing, Path("unused")).claim("worker-0")


def test_segments_of_two_claims_of_one_slot_are_apart(address: str) -> None:
    storage = open_storage(address, Path("unused"))
    one, two = storage.claim("worker-0"), storage.claim("worker-0")
    one.append(b"1")
    two.append(b"2")
    one.append(b"3")
    first, second, third = storage.names()
    assert sorted(storage.read(name) or b"" for name in (first, second, third)) == [b"1", b"2", b"3"]
    assert len({first.writer, second.writer, third.writer}) == 2
    assert {found.key.split("/")[0] for found in open_store(address).list()} == {"segments", "slots"}
    one.release()
    two.release()
    assert {found.key.split("/")[0] for found in open_store(address).list()} == {"segments"}


def test_a_put_whose_answer_was_lost_is_ours(address: str) -> None:
    storage = open_storage(address, Path("unused"))
    slot = storage.claim("worker-0")
    key = f"segments/{slot.writer}-000000000001.seg"  # type: ignore[attr-defined]
    open_store(address).put(key, b"some")
    slot.append(b"some")
    [name] = storage.names()
    assert (name.sequence, storage.read(name)) == (1, b"some")
    open_store(address).put(key.replace("1.seg", "2.seg"), b"another's")
    with pytest.raises(LedgerError, match=r"is there, and is not ours: nothing was acknowledged"):
        slot.append(b"more")
    slot.append(b"more")
    assert [storage.read(name) for name in storage.names()] == [b"some", b"another's", b"more"]


@pytest.mark.parametrize("bad", ["", "s3://", "ftp://bucket/x", "s4://bucket"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(StoreError, match=r"cannot be opened: it is no address of a store\. Name it as s3://bucket"):
        open_store(bad)


def test_a_ledger_is_refused_at_an_unknown_scheme() -> None:
    with pytest.raises(LedgerError, match="a ledger cannot be kept at 'ftp://x'"):
        open_storage("ftp://x", Path("unused"))
