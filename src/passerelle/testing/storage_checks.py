"""What every Storage must do: run by tests/conformance on each one there is, and by whoever writes another."""

from __future__ import annotations

from collections.abc import Callable

from passerelle.errors import LedgerError
from passerelle.ledger.storage import Storage

Check = Callable[[Storage], None]


def _expect(found: object, due: object, what: str) -> None:
    # Not an assert statement: the checks must hold under python -O, too.
    if found != due:
        raise AssertionError(f"{what}: {due!r} was due, and it is {found!r}")


def _refused(act: Callable[[], object]) -> str:
    try:
        act()
    except LedgerError as error:
        return str(error)
    raise AssertionError("a LedgerError was due, and none was raised")


def check_append_is_readable(storage: Storage) -> None:
    """What was appended is read at once, in order: in one open segment, or in a sealed one for each append."""
    slot = storage.claim("worker-0")
    slot.append(b"one")
    slot.append(b"two")
    names = storage.names()
    held = [b"one", b"two"] if slot.seals_appends else [b"onetwo"]
    _expect([storage.read(name) for name in names], held, "what the segments hold")
    _expect(
        [(name.slot, name.sequence, name.sealed) for name in names],
        [("worker-0", number, slot.seals_appends) for number in range(1, len(held) + 1)],
        "slot, number, sealed",
    )
    slot.release()


def check_seal_begins_another(storage: Storage) -> None:
    """After seal the segment is sealed, also under the name it had, and the next append begins the next number."""
    slot = storage.claim("worker-0")
    slot.append(b"one")
    [before] = storage.names()
    slot.seal()
    slot.seal()
    _expect(storage.read(before), b"one", "a sealed segment, read by the name it had")
    slot.append(b"two")
    _expect(
        [(name.sequence, name.sealed) for name in storage.names()],
        [(1, True), (2, slot.seals_appends)],
        "number, sealed",
    )
    slot.release()


def check_nothing_is_made_unasked(storage: Storage) -> None:
    """A slot that writes nothing makes no segment."""
    slot = storage.claim("worker-0")
    slot.seal()
    _expect(slot.asked(), due=False, what="is it asked to seal")
    slot.release()
    _expect(storage.names(), [], "the segments")


def check_slot_has_one_owner(storage: Storage) -> None:
    """A claimed slot is refused to a second owner, by its name, until it is released; other slots are free.

    Where each append is sealed, a second owner is another writer: no number of the two is the same.
    """
    slot = storage.claim("worker-0")
    if slot.seals_appends:
        other = storage.claim("worker-0")
        slot.append(b"one")
        other.append(b"two")
        names = storage.names()
        _expect(len({name.writer for name in names}), 2, "writers of two owners")
        _expect({storage.read(name) for name in names}, {b"one", b"two"}, "what the segments hold")
        slot.release()
        other.release()
        return
    _expect("worker-0" in _refused(lambda: storage.claim("worker-0")), due=True, what="the refusal names the slot")
    storage.claim("worker-1").release()
    slot.release()
    storage.claim("worker-0").release()


def check_claim_seals_what_was_left(storage: Storage) -> None:
    """A segment left open by an owner that is gone is sealed by the next, who begins a new one for the same writer.

    Where each append is sealed, the next owner is another writer.
    """
    first = storage.claim("worker-0")
    first.append(b"one")
    first.release()
    second = storage.claim("worker-0")
    _expect([name.sealed for name in storage.names()], [True], "is what was left sealed")
    second.append(b"two")
    names = storage.names()
    if second.seals_appends:
        _expect([(name.sequence, name.sealed) for name in names], [(1, True), (1, True)], "number, sealed")
        _expect(len({name.writer for name in names}), 2, "writers of one slot")
    else:
        _expect([(name.sequence, name.sealed) for name in names], [(1, True), (2, False)], "number, sealed")
        _expect(len({name.writer for name in names}), 1, "writers of one slot")
    second.release()


def check_numbers_are_never_used_twice(storage: Storage) -> None:
    """A deleted segment's number does not come back, not even for the next owner: compaction would take it as moved."""
    used: set[tuple[str, int]] = set()
    for expected in (1, 2, 3):
        slot = storage.claim("worker-0")
        slot.append(b"some")
        slot.seal()
        slot.release()
        [name] = storage.names()
        _expect(name.sequence, 1 if slot.seals_appends else expected, "the number")
        _expect((name.writer, name.sequence) in used, due=False, what="was the writer's number used before")
        used.add((name.writer, name.sequence))
        storage.delete(name)
        storage.delete(name)
        _expect(storage.read(name), None, "a deleted segment")
        _expect(storage.names(), [], "the segments")


def check_writers_are_apart(storage: Storage) -> None:
    """Two slots have segments of their own, numbered each from one."""
    one, two = storage.claim("worker-0"), storage.claim("worker-1")
    one.append(b"one")
    two.append(b"two")
    _expect(
        [(name.slot, name.sequence, storage.read(name)) for name in storage.names()],
        [("worker-0", 1, b"one"), ("worker-1", 1, b"two")],
        "slot, number, content",
    )
    one.release()
    two.release()


CHECKS: tuple[Check, ...] = (
    check_append_is_readable,
    check_seal_begins_another,
    check_nothing_is_made_unasked,
    check_slot_has_one_owner,
    check_claim_seals_what_was_left,
    check_numbers_are_never_used_twice,
    check_writers_are_apart,
)
