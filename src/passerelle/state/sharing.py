"""Sharing: the files of a state folder, for jobs that share no disk, in a store: ``PASSERELLE_STORE``.

The store holds the content of each file once, under its sha256, and *heads*: numbered lists of which file has which
content. Contents and heads are put if absent and never changed, so that a head is a compare-and-set: head N+1 can be
put by one job only, after it has seen head N, and a job that dies leaves the newest head as it was.

    objects/<sha256>          a file's content
    heads/<number:08d>.json   Head

A job brings down what the newest head names, works, and puts up what is new; most hold the lease "share" meanwhile.
Where another put a head in between, what it changed is taken over, and a file both changed is refused. Whatever the
database is told of is put up first (database.writing does it before it commits): a delivery that was accepted, a
revision that was made, has its files in the store. What a killed job had not told of is not there for anybody.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Protocol

import msgspec

from passerelle.errors import StateError
from passerelle.names import load
from passerelle.state.lease import lease

#: The variable that names the store: s3://BUCKET/PREFIX, gs://, az://, or a folder.
VARIABLE = "PASSERELLE_STORE"

#: What of the state folder is shared. Trust is not: whose signatures count is said by the repository alone.
SHARED = ("bundles", "data", "deployments", "holdouts", "landing", "ledger", "quarantine", "runs")
#: Beside the state folder: made by the first delivery, and the repository's own copy goes before it.
CONTRACT = "contract.toml"

_MARK = "shared.json"
_DRAFTS = ("landing/draft", "runs/draft", "holdouts/draft.msgpack")


class ShareError(StateError):
    """The store and this folder do not go together: look at both before anything is done again."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A file, as a head names it."""

    sha256: str
    size_bytes: int
    #: When it was written, in seconds of machine time: the newest run is found by it.
    written_s: float


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the shared files are, as of one number."""

    number: int
    #: The project whose they are.
    project: str
    #: Path from the state folder, with "/" → its file.
    files: dict[str, Entry]


class Listed(Protocol):
    """An object that lies in a store."""

    @property
    def key(self) -> str:
        """Its key."""


class Store(Protocol):
    """What sharing asks of a store; adapters.objectstore.Store has it, for object stores and folders.

    Any method may raise: nothing is told to the database then, and the job ends.
    """

    def get(self, key: str) -> bytes | None:
        """What an object holds; None if there is none. Called for every file that a job lacks."""

    def put(self, key: str, data: bytes, *, only_new: bool) -> bool:
        """Put an object that lasts, whole; False if there is one of this key, which stays as it is."""

    def list(self, prefix: str) -> Iterable[Listed]:
        """The objects below a prefix. Called when a job begins."""


def open_store(at: str) -> Store:
    """The store of an address. Raises MissingExtraError where its client is not installed."""
    found: Store = load("passerelle.adapters.objectstore:open_store")(at)
    return found


class Share:
    """A state folder and its store, in step."""

    def __init__(self, folder: Path, project: str, store: Store) -> None:
        self._folder = folder
        self._project = project
        self._store = store
        self._head = Head(number=0, project=project, files={})
        #: Path → size and time of change at which its content was last known.
        self._known: dict[str, tuple[int, int]] = {}

    @property
    def number(self) -> int:
        """The head that the folder is at."""
        return self._head.number

    def bring_down(self) -> int:
        """Make the folder what the newest head says; how many files were fetched.

        Raises ShareError if the store is another project's, if a content is missing or damaged, or if the folder holds
        files that no job put up: nothing of them is lost.
        """
        newest = self._newest()
        mark = self._folder / _MARK
        here = self._paths()
        if newest is None:
            return 0  # what is here will be the first head
        strange = sorted(here.keys() - newest.files.keys())
        if strange and not mark.exists():
            raise ShareError(
                f"{self._folder} holds {len(strange)} files that the store does not have, such as {strange[0]}: it was "
                "never shared. Work in a fresh clone, or move the folder away."
            )
        for name in strange:  # of a job that ended before it had told of them
            here[name].unlink()
        fetched = 0
        for name, entry in newest.files.items():
            path = self._place(name)
            if not path.exists() or _sha256(path) != entry.sha256:
                self._fetch(path, name, entry)
                fetched += 1
            self._known[name] = _stamp(path)
        self._head = newest
        self._mark()
        return fetched

    def put_up(self) -> int:
        """Put up what is new, as the next head; how many files changed. Nothing changed: nothing is put.

        Raises ShareError if another job changed the same files meanwhile: nothing of this one's is visible then.
        """
        here = self._paths()
        files: dict[str, Entry] = {}
        changed = len(self._head.files.keys() - here.keys())
        for name, path in sorted(here.items()):
            before, stamp = self._head.files.get(name), _stamp(path)
            if before is not None and self._known.get(name) == stamp:
                files[name] = before
                continue
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            self._known[name] = stamp
            if before is not None and before.sha256 == digest:
                files[name] = before
                continue
            changed += 1
            self._store.put(f"objects/{digest}", content, only_new=True)
            files[name] = Entry(sha256=digest, size_bytes=len(content), written_s=path.stat().st_mtime)
        if changed:
            self._follow(files)
        return changed

    def _follow(self, files: dict[str, Entry]) -> None:
        """Put the next head; where another job was before this one, after its head, unless they changed the same."""
        head = Head(number=self._head.number + 1, project=self._project, files=files)
        while not self._store.put(_head_name(head.number), msgspec.json.encode(head), only_new=True):
            theirs = self._newest()
            if theirs is None or theirs.number < head.number:
                raise ShareError(f"the store has a head {head.number} and does not list it: look at the store.")
            merged, clash = merge(self._head.files, theirs.files, files)
            if clash:
                raise ShareError(
                    f"another job changed {clash[0]} (head {theirs.number} of the store) while this one, which began "
                    f"at head {self._head.number}, changed it too: nothing of this one is kept. Run it again."
                )
            self._obey(theirs, except_for=files.keys())
            files = merged
            head = Head(number=theirs.number + 1, project=self._project, files=files)
        self._head = head
        self._mark()

    def _obey(self, head: Head, except_for: Collection[str]) -> None:
        """Take over what another job changed meanwhile."""
        for name in self._head.files.keys() - head.files.keys():
            self._place(name).unlink(missing_ok=True)
        for name, entry in head.files.items():
            if self._head.files.get(name) != entry and (name not in except_for or name in self._head.files):
                self._fetch(self._place(name), name, entry)
                self._known[name] = _stamp(self._place(name))
        self._head = head

    def _mark(self) -> None:
        (self._folder / _MARK).write_text(f'{{"head": {self._head.number}}}\n', encoding="utf-8")

    def _newest(self) -> Head | None:
        names = sorted(found.key for found in self._store.list("heads"))
        if not names:
            return None
        content = self._store.get(names[-1])
        try:
            head = msgspec.json.decode(content or b"", type=Head)
        except msgspec.DecodeError as error:
            raise ShareError(f"{names[-1]} of the store cannot be read ({error}): restore it from a copy.") from error
        if head.project != self._project:
            raise ShareError(
                f"the store is of project {head.project!r}, and this is {self._project!r}: give each a store."
            )
        return head

    def _paths(self) -> dict[str, Path]:
        """The files that are shared and stand here."""
        found = {}
        for part in SHARED:
            for root, folders, names in os.walk(self._folder / part):
                folders[:] = [one for one in folders if not _is_draft(self._name(Path(root) / one))]
                for path in (Path(root) / one for one in names):
                    if path.is_file() and not path.is_symlink() and not _is_draft(self._name(path)):
                        found[self._name(path)] = path
        if (contract := self._folder.parent / CONTRACT).is_file():
            found[f"../{CONTRACT}"] = contract
        return found

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _place(self, name: str) -> Path:
        """Where a file stands; a name that leads elsewhere is refused: the store is not trusted with this machine."""
        parts = PurePosixPath(name).parts
        if name != f"../{CONTRACT}" and (parts[0] not in SHARED or ".." in parts or "\\" in name):
            raise ShareError(f"the store names {name!r}, which is no file that is shared: nothing more was fetched.")
        return self._folder / name

    def _fetch(self, path: Path, name: str, entry: Entry) -> None:
        if name == f"../{CONTRACT}" and path.exists():
            return  # the repository's own copy goes before
        content = self._store.get(f"objects/{entry.sha256}")
        if content is None or hashlib.sha256(content).hexdigest() != entry.sha256:
            state = "is not in the store" if content is None else "is damaged in the store"
            raise ShareError(f"the content of {name} (objects/{entry.sha256}) {state}: restore it from a copy.")
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        try:
            draft.write_bytes(content)
            os.utime(draft, (entry.written_s, entry.written_s))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


#: The state folders that this process shares.
_shares: dict[Path, Share] = {}


def merge(
    base: Mapping[str, Entry], theirs: Mapping[str, Entry], ours: Mapping[str, Entry]
) -> tuple[dict[str, Entry], list[str]]:
    """What two jobs made of the same files, together; and the names that both changed, each in its way. Pure.

    >>> one, two = (Entry(sha256=text, size_bytes=1, written_s=0.0) for text in "12")
    >>> merged, clash = merge({"a": one}, {"a": one, "b": one}, {"c": two})
    >>> sorted(merged), clash
    (['b', 'c'], [])
    >>> merge({}, {"000001.json": one}, {"000001.json": two})[1]
    ['000001.json']
    """
    merged, clash = dict(theirs), []
    for name in sorted(base.keys() | ours.keys()):
        before, mine, other = (_content(some.get(name)) for some in (base, ours, theirs))
        if mine in (before, other):
            continue
        if other != before:
            clash.append(name)
        elif name in ours:
            merged[name] = ours[name]
        else:
            del merged[name]
    return merged, clash


def _content(entry: Entry | None) -> str | None:
    return None if entry is None else entry.sha256


@contextmanager
def shared(folder: Path, project: str, at: str, *, wait_s: float | None, keep: bool = True) -> Iterator[Share]:
    """Share a state folder through the store at an address while the block runs: one process at a time, anywhere.

    Without ``wait_s`` it waits for nobody: what two change is merged, and refused where it is the same. Without
    ``keep`` the block only looks: nothing that it makes is put up.
    Raises LeaseError if another works for longer than ``wait_s``, and what Share's methods raise. If the block raises,
    what the database was told of has been put up, and the rest is not.
    """
    with nullcontext() if wait_s is None else lease(folder, "share", wait_s=wait_s):
        share = Share(folder, project, open_store(at))
        share.bring_down()
        if not keep:
            yield share
            return
        _shares[folder.resolve()] = share
        try:
            yield share
            share.put_up()
        finally:
            del _shares[folder.resolve()]


def put_up(folder: Path) -> None:
    """Put up what is new in a folder, if this process shares it: the files first, then whatever tells of them."""
    share = _shares.get(folder.resolve())
    if share is not None:
        share.put_up()


def _head_name(number: int) -> str:
    return f"heads/{number:08d}.json"


def _is_draft(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".") or name in _DRAFTS


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
