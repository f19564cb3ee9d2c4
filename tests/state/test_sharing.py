"""What jobs share: put up before it is told of, merged where they changed different files, refused where the same."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from passerelle.adapters.objectstore import Store
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.heads import Head
from passerelle.state.sharing import Share, ShareError, shared

pytest.importorskip("obstore")


def clone(root: Path, name: str, *, project: str = "parcels") -> Path:
    state = root / name / ".passerelle"
    state.mkdir(parents=True)
    (root / name / "passerelle.toml").write_text(f'[project]\nname = "{project}"\n')
    return state


def write(state: Path, name: str, text: str) -> Path:
    path = state / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def store(tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return str(tmp_path / "store")


@pytest.mark.usefixtures("sqlite")
def test_a_clone_has_what_the_job_before_it_left_and_nothing_that_is_not_shared(tmp_path: Path, store: str) -> None:
    one, two = clone(tmp_path, "one"), clone(tmp_path, "two")
    with shared(one, "parcels", store, wait_s=1):
        for name in ("data/events/_delta_log/0.json", "runs/draft/x", "trust/key", "landing/draft/y", "bundles/.draft"):
            write(one, name, name)
        write(one, "../contract.toml", "theirs")
    with shared(two, "parcels", store, wait_s=1):
        assert (two / "data/events/_delta_log/0.json").read_text() == "data/events/_delta_log/0.json"
        assert (two.parent / "contract.toml").read_text() == "theirs"
        assert not any((two / name).exists() for name in ("runs", "trust", "landing", "bundles"))
        (two / "data/events/_delta_log/0.json").unlink()
    three = clone(tmp_path, "three")
    (three.parent / "contract.toml").write_text("the repository's")
    with shared(three, "parcels", store, wait_s=1) as share:
        assert (share.number, (three / "data").exists()) == (2, False)
        assert (three.parent / "contract.toml").read_text() == "the repository's"


@pytest.mark.usefixtures("sqlite")
def test_files_are_put_up_before_the_database_is_told_and_what_was_not_told_is_gone(tmp_path: Path, store: str) -> None:
    one, two = clone(tmp_path, "one"), clone(tmp_path, "two")
    script = f"""
import os, signal, sys
from pathlib import Path
from passerelle.adapters.objectstore import Store
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.heads import Head
from passerelle.state.sharing import shared
state = Path({str(one)!r})
with shared(state, "parcels", {store!r}, wait_s=1):
    (state / "data").mkdir()
    (state / "data" / "told").write_text("told")
    with writing(open_state(state)) as connection:
        connection.execute(tables.landed.insert().values(table="told", version=1))
    (state / "data" / "untold").write_text("untold")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with shared(two, "parcels", store, wait_s=1):
        assert [path.name for path in (two / "data").iterdir()] == ["told"]
    with shared(one, "parcels", store, wait_s=1):  # the same folder again, as on a runner that stays
        assert [path.name for path in (one / "data").iterdir()] == ["told"]
    (aside,) = one.glob("unshared/*/data/untold")
    assert aside.read_text() == "untold"


@pytest.mark.usefixtures("sqlite")
def test_a_transaction_whose_files_cannot_be_put_up_is_not_kept(tmp_path: Path, store: str) -> None:
    one, two = clone(tmp_path, "one"), clone(tmp_path, "two")
    revision = "deployments/production/000001.json"

    def work() -> None:
        with shared(one, "parcels", store, wait_s=None):
            write(one, revision, "mine")
            with shared(two, "parcels", store, wait_s=None):
                write(two, revision, "theirs")
            with writing(open_state(one)) as connection:
                connection.execute(tables.landed.insert().values(table="events", version=1))

    with pytest.raises(ShareError, match=rf"another job changed {revision} \(head 1 of the store\)"):
        work()
    with open_state(one).connect() as connection:
        assert connection.execute(tables.landed.select()).all() == []
    three = clone(tmp_path, "three")
    with shared(three, "parcels", store, wait_s=1):
        assert (three / revision).read_text() == "theirs"


@pytest.mark.usefixtures("sqlite")
def test_different_files_of_two_jobs_are_merged(tmp_path: Path, store: str) -> None:
    one, two, three = (clone(tmp_path, name) for name in ("one", "two", "three"))
    with shared(one, "parcels", store, wait_s=None):
        write(one, "data/a", "a")
    with shared(one, "parcels", store, wait_s=None):
        write(one, "data/mine", "mine")
        with shared(two, "parcels", store, wait_s=None):
            write(two, "deployments/production/000002.json", "rolled back")
            (two / "data/a").unlink()
    assert sorted(path.name for path in one.rglob("*") if path.is_file() and path.parent.name != "leases") == [
        "000002.json",
        "mine",
        "shared.json",
    ]
    with shared(three, "parcels", store, wait_s=None) as share:
        assert share.number == 3
        assert (three / "data/mine").exists()
        assert not (three / "data/a").exists()


@pytest.mark.usefixtures("sqlite")
def test_what_was_never_shared_is_not_overwritten_nor_another_projects_store_taken(tmp_path: Path, store: str) -> None:
    one, two = clone(tmp_path, "one"), clone(tmp_path, "two")
    with shared(one, "parcels", store, wait_s=1):
        write(one, "data/a", "a")
    write(two, "data/b", "precious")
    with pytest.raises(ShareError, match="holds 1 files that the store does not have, such as data/b"):
        Share(two, "parcels", store).bring_down()
    assert (two / "data/b").read_text() == "precious"
    with pytest.raises(ShareError, match="the store is of project 'parcels', and this is 'other'"):
        Share(clone(tmp_path, "other", project="other"), "other", store).bring_down()


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize("name", ["", "../x", "trust/key", "data/../trust/key", "state.db", "/etc/x"])
def test_a_store_that_was_changed_is_refused(tmp_path: Path, store: str, name: str) -> None:
    one, two = clone(tmp_path, "one"), clone(tmp_path, "two")
    with shared(one, "parcels", store, wait_s=1):
        write(one, "data/a", "a")
    head = tmp_path / "store/heads/00000001.json"
    head.write_text(head.read_text().replace('"data/a"', f'"{name}"'))
    with pytest.raises(ShareError, match="which is no file that is shared"):
        Share(two, "parcels", store).bring_down()
    head.write_text(head.read_text().replace(f'"{name}"', '"data/a"'))
    (content,) = (tmp_path / "store/objects").iterdir()
    content.write_text("b")
    with pytest.raises(ShareError, match="is damaged in the store"):
        Share(two, "parcels", store).bring_down()
    assert not (two / "data/a").exists()


@pytest.mark.usefixtures("sqlite")
def test_work_that_was_done_here_without_the_store_is_moved_aside_and_no_other_store_is_taken(
    tmp_path: Path, store: str
) -> None:
    one, two = clone(tmp_path, "one"), clone(tmp_path, "two")
    with shared(one, "parcels", store, wait_s=1):
        for name in ("data/changed", "data/kept", "data/taken"):
            write(one, name, "first")
    with shared(two, "parcels", store, wait_s=1):
        write(two, "data/changed", "theirs")
        write(two, "data/kept", "theirs")
        (two / "data/taken").unlink()
    write(one, "data/changed", "mine, by hand")
    write(one, "data/new", "mine, too")
    with shared(one, "parcels", store, wait_s=1) as share:
        assert share.aside == ("data/changed", "data/new")
        assert {path.name: path.read_text() for path in (one / "data").iterdir()} == {
            "changed": "theirs",
            "kept": "theirs",
        }
    (aside,) = (one / "unshared").iterdir()
    assert (aside / "data/changed").read_text() == "mine, by hand"
    assert (aside / "data/new").read_text() == "mine, too"
    assert not (aside / "data/kept").exists(), "it was in step"
    (tmp_path / "other").mkdir()
    with pytest.raises(ShareError, match=r"follows the store .*store, and PASSERELLE_STORE names .*other"):
        Share(one, "parcels", str(tmp_path / "other")).bring_down()
    for head in (tmp_path / "store/heads").iterdir():
        head.unlink()
    with pytest.raises(ShareError, match=r"has seen head 2 of .* which has none of that number any more"):
        Share(one, "parcels", store).bring_down()


@pytest.mark.usefixtures("sqlite")
def test_a_file_that_was_never_shared_is_not_overwritten_by_one_of_its_name(tmp_path: Path, store: str) -> None:
    one, two = clone(tmp_path, "one"), clone(tmp_path, "two")
    with shared(one, "parcels", store, wait_s=1):
        write(one, "data/a", "theirs")
    write(two, "data/a", "precious")
    with pytest.raises(ShareError, match="never shared"):
        Share(two, "parcels", store).bring_down()
    assert (two / "data/a").read_text() == "precious"


@pytest.mark.usefixtures("sqlite")
def test_what_is_large_is_put_up_before_the_lock_is_taken(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = clone(tmp_path, "one")
    engine = open_state(one)
    seen: list[tuple[str, bool]] = []
    locked = [False]
    put = Store.put

    def watched(self: Store, key: str, data: bytes | Path, *, only_new: bool = False) -> bool:
        seen.append((key.partition("/")[0], locked[0]))
        return put(self, key, data, only_new=only_new)

    monkeypatch.setattr(Store, "put", watched)
    with shared(one, "parcels", store, wait_s=1):
        write(one, "data/large", "large")
        with writing(engine) as connection:
            locked[0] = True
            connection.execute(tables.landed.insert().values(table="large", version=1))
    assert seen == [("objects", False), ("heads", True)]


@pytest.mark.usefixtures("sqlite")
def test_a_fresh_clone_fetches_many_contents_at_once(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = clone(tmp_path, "one"), clone(tmp_path, "two")
    with shared(one, "parcels", store, wait_s=1):
        for name in "abcd":
            write(one, f"data/{name}", name)
    together = threading.Barrier(4, timeout=30)  # passes when four wait, and only then
    get = Store.get

    def waited(self: Store, key: str) -> bytes | None:
        if key.startswith("objects/"):
            together.wait()
        return get(self, key)

    monkeypatch.setattr(Store, "get", waited)
    Share(two, "parcels", store).bring_down()
    assert {path.name: path.read_text() for path in (two / "data").iterdir()} == {name: name for name in "abcd"}


@pytest.mark.usefixtures("sqlite")
def test_what_was_erased_is_gone_from_the_store_and_no_number_comes_free(tmp_path: Path, store: str) -> None:
    one = clone(tmp_path, "one")
    with shared(one, "parcels", store, wait_s=1):
        write(one, "data/a", "about you")
        write(one, "data/b", "about nobody")
    orphan = tmp_path / "store/objects" / ("f" * 64)
    orphan.write_text("about you: of a job that was killed")
    with shared(one, "parcels", store, wait_s=1, erase=True):
        write(one, "data/a", "about them")
    assert sorted(path.read_text() for path in (tmp_path / "store/objects").iterdir()) == ["about nobody", "about them"]
    heads = [Path(path).read_bytes() for path in sorted((tmp_path / "store/heads").iterdir())]
    assert [len(msgspec.json.decode(head, type=Head).files) for head in heads] == [0, 2]
