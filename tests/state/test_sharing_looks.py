"""Looking at what is shared: the newest of it, beside who erases, and beside who works in the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from passerelle.adapters.objectstore import Store
from passerelle.state.lease import LeaseError, lease
from passerelle.state.sharing import Share, ShareError, shared

pytest.importorskip("obstore")


def clone(root: Path, name: str) -> Path:
    state = root / name / ".passerelle"
    state.mkdir(parents=True)
    return state


def write(state: Path, **texts: str) -> None:
    (state / "data").mkdir(exist_ok=True)
    for name, text in texts.items():
        (state / "data" / name).write_text(text)


def held(state: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (state / "data").iterdir()}


@pytest.fixture
def store(tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return str(tmp_path / "store")


class Meanwhile:
    """Another machine that writes and erases while an object of a kind is fetched, so many times."""

    def __init__(self, state: Path, store: str, patch: pytest.MonkeyPatch, *, kind: str, times: int) -> None:
        self.state, self.store, self.kind, self.left, self.done = state, store, kind, times, 0
        self.busy = self.anew = False
        get = Store.get

        def watched(one: Store, key: str) -> bytes | None:
            self.fetched(key)
            return get(one, key)

        patch.setattr(Store, "get", watched)
        patch.setattr("passerelle.state.sharing._AT_ONCE", 1)

    def fetched(self, key: str) -> None:
        if self.busy:
            return
        self.anew |= key.startswith("heads/")  # once for each head that is followed
        if not self.left or not self.anew or not key.startswith(self.kind):
            return
        self.anew, self.busy, self.left, self.done = False, True, self.left - 1, self.done + 1
        with shared(self.state, "parcels", self.store, wait_s=30, erase=True):
            write(self.state, unit=f"about them {self.done}", other=f"rewritten {self.done}")
        self.busy = False


@pytest.fixture
def other(tmp_path: Path, store: str) -> Path:
    """A machine whose state was put up twice; the folder "here" has seen the first."""
    other, here = clone(tmp_path, "other"), clone(tmp_path, "here")
    with shared(other, "parcels", store, wait_s=30):
        write(other, unit="about you", same="same")
    with shared(here, "parcels", store, wait_s=None, keep=False):
        assert held(here) == {"unit": "about you", "same": "same"}
    with shared(other, "parcels", store, wait_s=30):
        write(other, unit="about you, too", other="a table", more="more")
    return other


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize(("kind", "times"), [("objects/", 1), ("objects/", 4), ("heads/", 1)])
def test_look_begins_anew_where_somebody_erases_meanwhile(
    tmp_path: Path, store: str, other: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str, times: int
) -> None:
    here = other.parents[1] / "here" / ".passerelle"
    meanwhile = Meanwhile(other, store, monkeypatch, kind=kind, times=times)
    with shared(here, "parcels", store, wait_s=None, keep=False) as share:
        assert (share.number, share.aside, meanwhile.left) == (2 + times, (), 0)
        assert held(here) == held(other)
    assert not list((tmp_path / "here").rglob("unshared"))  # what was fetched before it was erased is nobody's work


@pytest.mark.usefixtures("sqlite")
def test_look_does_not_begin_anew_for_ever_nor_where_nothing_came(
    store: str, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = other.parents[1] / "here" / ".passerelle"
    with monkeypatch.context() as patch:
        meanwhile = Meanwhile(other, store, patch, kind="objects/", times=100)
        with pytest.raises(ShareError, match="run it again, in case somebody erased"):
            Share(here, "parcels", store).bring_down()
        assert meanwhile.done == 5
    for path in Path(store, "objects").iterdir():
        path.unlink()
    fetched: list[str] = []
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda one, key: (fetched.append(key), get(one, key))[1])
    with pytest.raises(ShareError, match="is not in the store"):
        Share(here, "parcels", store).bring_down()
    assert len([key for key in fetched if key.startswith("heads/")]) == 2  # looked whether there is a later one


@pytest.mark.usefixtures("sqlite")
@pytest.mark.parametrize("purpose", ["share", "share-hurried"])
def test_look_leaves_the_folder_to_who_works_in_it(
    store: str, other: Path, monkeypatch: pytest.MonkeyPatch, *, purpose: str
) -> None:
    here = other.parents[1] / "here" / ".passerelle"
    monkeypatch.setattr("passerelle.state.sharing._LOOK_S", 0.0)
    with lease(here, purpose):
        write(here, unfinished="a run that goes on")
        with shared(here, "parcels", store, wait_s=None, keep=False) as share:
            assert (share.number, share.aside) == (1, ())
            assert "holds the lease" in str(share.busy)
        assert held(here)["unfinished"] == "a run that goes on"
    with lease(other, purpose), shared(here, "parcels", store, wait_s=None, keep=False) as share:  # not in this folder
        assert (share.number, share.busy, share.aside) == (2, None, ("data/unfinished",))
    with pytest.raises(LeaseError), lease(here, purpose), lease(here, purpose):
        pass
