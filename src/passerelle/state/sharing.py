"""Sharing: the files of a state folder, for jobs that share no disk, in a store: ``PASSERELLE_STORE``.

The store holds the content of each file once, under its sha256, and *heads*: numbered lists of which file has which
content. Contents and heads are put if absent and never changed, so that a head is a compare-and-set: head N+1 can be
put by one job only, after it has seen head N, and a job that dies leaves the newest head as it was.

    objects/<sha256>          a file's content
    heads/<number:08d>.json   Head; an older one is emptied once what it names was erased

A job brings down what the newest head names, works, and puts up what is new; most hold the lease "share" meanwhile.
Where another put a head in between, what it changed is taken over, and a file both changed is refused. Whatever the
database is told of is put up first (database.writing does it before it commits): a delivery that was accepted, a
revision that was made, has its files in the store. What a killed job had not told of is not there for anybody.

A mark in the folder says which store it follows, and what each file held when it was last in step. Whatever here is
neither that nor what the newest head has is somebody's work: it is moved aside, never deleted.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import StateError
from passerelle.state import postgresql
from passerelle.state.heads import Entry, Head, Mark, head_name, merge
from passerelle.state.lease import LeaseError, lease, lease_here
from passerelle.state.store import open_store

#: The variable that names the store: s3://BUCKET/PREFIX, gs://, az://, or a folder.
VARIABLE = "PASSERELLE_STORE"

#: What of the state folder is shared. Trust is not: whose signatures count is said by the repository alone.
SHARED = ("bundles", "data", "deployments", "holdouts", "landing", "ledger", "quarantine", "runs", "targets")
#: Beside the state folder: made by the first delivery, and the repository's own copy goes before it.
CONTRACT = "contract.toml"

#: Where files go that no head has, and that would be in the way: below the state folder, by the head they gave way to.
ASIDE = "unshared"

_MARK = "shared.json"
#: How long a hurried one waits for another, or for who erases.
_HURRY_S = 600.0
#: How long one that only looks waits for another process of this machine, and how often it begins anew.
_LOOK_S = 5.0
_TRIES = 5
#: How many contents are fetched at once.
_AT_ONCE = 16
_DRAFTS = ("landing/draft", "runs/draft", "holdouts/draft.msgpack")


class ShareError(StateError):
    """The store and this folder do not go together: look at both before anything is done again."""


class Share:
    """A state folder and its store, in step."""

    def __init__(self, folder: Path, project: str, at: str) -> None:
        self._folder = folder
        self._project = project
        self._at = at.rstrip("/")
        self._store = open_store(at)
        self._head = Head(number=0, project=project, files={})
        #: What was moved aside to come into step with the store.
        self.aside: tuple[str, ...] = ()
        #: Who works in this folder, so that it was not brought into step; None: nobody.
        self.busy: str | None = None
        #: Path → size and time of change at which its content was last known, and the content.
        self._known: dict[str, tuple[tuple[int, int], Entry]] = {}

    @property
    def number(self) -> int:
        """The head that the folder is at."""
        return self._head.number

    def bring_down(self) -> tuple[str, ...]:
        """Make the folder what the newest head says; the files that were moved aside for it.

        Begins anew, a few times, where another head was put meanwhile and what this one names was erased.
        Raises ShareError if the store is another project's, or not the one that the folder follows, if a content is
        missing or damaged, or if the folder holds files and was never shared: nothing of them is lost.
        """
        mark, aside = self._read_mark(), list[str]()
        seen = [] if mark is None else [mark.files]
        for left in reversed(range(_TRIES)):
            newest = self._newest_after(mark)
            if newest is None:
                break  # what is here will be the first head
            try:
                self._come_to(newest, seen, aside, marked=mark is not None)
                break
            except ShareError:
                later = self._newest()
                if not left or later is None or later.number == newest.number:
                    raise
            seen.append({name: entry.sha256 for name, entry in newest.files.items()})  # fetched: nobody's work
        return tuple(aside)

    def stay(self, busy: str) -> None:
        """Leave the folder at the head that it is at, for that somebody works in it."""
        mark = self._read_mark()
        self.busy = busy
        self._head = msgspec.structs.replace(self._head, number=0 if mark is None else mark.head)

    def _newest_after(self, mark: Mark | None) -> Head | None:
        newest = self._newest()
        if mark is not None and (newest is None or newest.number < mark.head):
            raise ShareError(
                f"{self._folder} has seen head {mark.head} of {self._at}, which has none of that number any more: "
                f"restore the store, or, if it was begun anew on purpose, remove {_MARK} there."
            )
        return newest

    def _come_to(self, newest: Head, seen: list[dict[str, str]], aside: list[str], *, marked: bool) -> None:
        """Make the folder what a head says; ``seen``: what its files held before, ``aside``: what was moved away."""
        here = self._paths()
        digests = {name: _sha256(path) for name, path in here.items()}
        wanted = {name: entry.sha256 for name, entry in newest.files.items()}
        own = sorted(
            name
            for name, digest in digests.items()
            if digest not in (wanted.get(name), *(before.get(name) for before in seen)) and name != f"../{CONTRACT}"
        )
        if own and not marked:
            raise ShareError(
                f"{self._folder} holds {len(own)} files that the store does not have, such as {own[0]}: it was "
                "never shared. Work in a fresh clone, or move the folder away."
            )
        away = self._folder / ASIDE / f"{newest.number:08d}-{secrets.token_hex(4)}"
        for name in own:  # of a job that was killed before it told of them, or made by hand without the store
            (away / name).parent.mkdir(parents=True, exist_ok=True)
            here[name].replace(away / name)
            aside.append(name)
        for name in digests.keys() - wanted.keys() - {f"../{CONTRACT}"}:
            here[name].unlink(missing_ok=True)
        lacking = [name for name, entry in newest.files.items() if name in own or digests.get(name) != entry.sha256]
        places = {name: self._place(name) for name in newest.files}
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # a fresh clone lacks thousands: most of the time is waiting
            for _ in pool.map(lambda name: self._fetch(places[name], name, newest.files[name]), lacking):
                pass
        self._known |= {name: (_stamp(places[name]), entry) for name, entry in newest.files.items()}
        self._head = newest
        self._mark()

    def stage(self) -> dict[str, Entry]:
        """Put up the contents that are new, under no head yet; all files as they are now.

        Whoever is about to take a lock calls this before: under the lock only what came since is left to put up.
        """
        files: dict[str, Entry] = {}
        for name, path in sorted(self._paths().items()):
            stamp = _stamp(path)
            known = self._known.get(name)
            if known is None or known[0] != stamp:
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                before = self._head.files.get(name)
                if before is not None and before.sha256 == digest:
                    entry = before
                else:
                    self._store.put(f"objects/{digest}", content, only_new=True)
                    entry = Entry(sha256=digest, size_bytes=len(content), written_s=path.stat().st_mtime)
                known = self._known[name] = (stamp, entry)
            files[name] = known[1]
        return files

    def put_up(self) -> int:
        """Put up what is new, as the next head; how many files changed. Nothing changed: nothing is put.

        Raises ShareError if another job changed the same files meanwhile, StateError if the lease was lost: nothing of
        this one's is visible then.
        """
        files, before = self.stage(), self._head.files
        changed = sum(before.get(name) != files.get(name) for name in before.keys() | files.keys())
        if changed:
            postgresql.refuse_lost()
            self._follow(files)
        return changed

    def erase_old(self) -> int:
        """Delete every content that the newest head does not name, and empty the older heads; how many contents.

        Nobody else may put anything up meanwhile. A head keeps its number, so that it is put once for ever.
        """
        newest = self._newest()
        if newest is None:
            return 0
        named = {f"objects/{entry.sha256}" for entry in newest.files.values()}
        old = [found.key for found in self._store.list("objects") if found.key not in named]
        for key in old:
            self._store.delete(key)
        for found in self._store.list("heads"):
            number = int(PurePosixPath(found.key).stem)
            empty = msgspec.json.encode(Head(number=number, project=self._project, files={}))
            if number < newest.number and found.size_bytes > len(empty):
                self._store.put(found.key, empty, only_new=False)
        return len(old)

    def _follow(self, files: dict[str, Entry]) -> None:
        """Put the next head; where another job was before this one, after its head, unless they changed the same."""
        head = Head(number=self._head.number + 1, project=self._project, files=files)
        while not self._store.put(head_name(head.number), msgspec.json.encode(head), only_new=True):
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
                self._known[name] = (_stamp(self._place(name)), entry)
        self._head = head

    def _mark(self) -> None:
        files = {name: entry.sha256 for name, entry in self._head.files.items()}
        draft = self._folder / f".{_MARK}-{secrets.token_hex(8)}"
        try:
            draft.write_bytes(msgspec.json.encode(Mark(store=self._at, head=self._head.number, files=files)))
            draft.replace(self._folder / _MARK)
        finally:
            draft.unlink(missing_ok=True)

    def _read_mark(self) -> Mark | None:
        path = self._folder / _MARK
        try:
            mark = msgspec.json.decode(path.read_bytes(), type=prepared(Mark))
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise ShareError(f"{path} cannot be read ({error}): work in a fresh clone, or move it away.") from error
        if mark.store != self._at:
            raise ShareError(
                f"{self._folder} follows the store {mark.store}, and {VARIABLE} names {self._at}: set the variable to "
                "that, or work in a fresh clone."
            )
        return mark

    def _newest(self) -> Head | None:
        before = None
        while names := sorted(found.key for found in self._store.list("heads")):
            content = self._store.get(names[-1])
            try:
                head = msgspec.json.decode(content or b"", type=prepared(Head))
            except msgspec.DecodeError as error:
                raise ShareError(
                    f"{names[-1]} of the store cannot be read ({error}): restore it from a copy."
                ) from error
            if head.project != self._project:
                raise ShareError(
                    f"the store is of project {head.project!r}, and this is {self._project!r}: give each a store."
                )
            if head.files or names[-1] == before:
                return head
            before = names[-1]  # it may have been emptied while it was read: then there is a later one
        return None

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
        if name != f"../{CONTRACT}" and (not parts or parts[0] not in SHARED or ".." in parts or "\\" in name):
            raise ShareError(f"the store names {name!r}, which is no file that is shared: nothing more was fetched.")
        return self._folder / name

    def _fetch(self, path: Path, name: str, entry: Entry) -> None:
        if name == f"../{CONTRACT}" and path.exists():
            return  # the repository's own copy goes before
        content = self._store.get(f"objects/{entry.sha256}")
        if content is None or hashlib.sha256(content).hexdigest() != entry.sha256:
            state = "is not in the store" if content is None else "is damaged in the store"
            raise ShareError(
                f"the content of {name} (objects/{entry.sha256}) {state}: run it again, in case somebody erased a unit "
                "meanwhile; if it is so then, too, restore the store from a copy."
            )
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


@contextmanager
def shared(
    folder: Path, project: str, at: str, *, wait_s: float | None, keep: bool = True, erase: bool = False
) -> Iterator[Share]:
    """Share a state folder through the store at an address while the block runs: one process at a time, anywhere.

    Without ``wait_s`` it waits for nobody but who erases: what two change is merged, and refused where it is the same.
    Without ``keep`` the block only looks: nothing that it makes is put up, and where another process of this machine
    works in the folder, that one's files are left as they are: see Share.busy. With ``erase`` it ends by deleting from
    the store all that its files do not have any more.
    Raises LeaseError if another works for longer than ``wait_s``, and what Share's methods raise. If the block raises,
    what the database was told of has been put up, and the rest is not.
    """
    with ExitStack() as held:
        if keep and wait_s is not None:
            held.enter_context(lease(folder, "share", wait_s=wait_s))
        if keep and (wait_s is None or erase):
            held.enter_context(lease(folder, "share-hurried", wait_s=_HURRY_S))
        share = Share(folder, project, at)
        if not keep:
            try:
                with lease_here(folder, "share", wait_s=_LOOK_S), lease_here(folder, "share-hurried", wait_s=_LOOK_S):
                    share.aside = share.bring_down()
            except LeaseError as error:
                share.stay(str(error))
            yield share
            return
        share.aside = share.bring_down()
        _shares[folder.resolve()] = share
        try:
            yield share
            share.put_up()
            if erase:
                share.erase_old()
        finally:
            del _shares[folder.resolve()]


def stage(folder: Path) -> None:
    """Put up the contents that are new in a folder, if this process shares it, before a lock is taken."""
    share = _shares.get(folder.resolve())
    if share is not None:
        share.stage()


def put_up(folder: Path) -> None:
    """Put up what is new in a folder, if this process shares it: the files first, then whatever tells of them."""
    share = _shares.get(folder.resolve())
    if share is not None:
        share.put_up()


def _is_draft(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".") or name in _DRAFTS


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
