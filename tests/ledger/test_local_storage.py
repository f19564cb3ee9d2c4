"""What LocalStorage promises beyond the seam: locks, a full disk, a lost counter."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from passerelle.errors import LedgerError
from passerelle.ledger.storage import LocalStorage, ledger_folder


def test_ledger_folder() -> None:
    assert ledger_folder(Path("/p/.passerelle"), "staging") == Path("/p/.passerelle/ledger/staging")


def test_the_lock_ends_with_its_process_and_a_child_does_not_keep_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\nfrom pathlib import Path\nfrom passerelle.ledger.storage import LocalStorage\n"
        "slot = LocalStorage(Path(sys.argv[1])).claim('worker-0')\nslot.append(b'some')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    storage = LocalStorage(tmp_path)
    try:
        with pytest.raises(LedgerError, match=r"slot 'worker-0' of .* belongs to another process that is alive"):
            storage.claim("worker-0")
        owner.kill()
        owner.wait()
        storage.claim("worker-0").release()
    finally:
        os.kill(child, signal.SIGKILL)
        owner.kill()
        owner.stdout.close()
        owner.wait()
    assert [(name.sequence, name.sealed) for name in storage.names()] == [(1, True)]


def test_a_full_disk_acknowledges_nothing_and_ends_when_there_is_room(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    slot = storage.claim("worker-0")
    slot.append(b"acknowledged")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        for _ in range(3):
            with pytest.raises(LedgerError, match="Nothing was acknowledged: free the disk"):
                slot.append(b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    [name] = storage.names()
    assert (name.sealed, storage.read(name)) == (True, b"acknowledged")
    slot.append(b"y" * 5000)
    slot.release()
    assert [storage.read(name) for name in storage.names()] == [b"acknowledged", b"y" * 5000]


def test_a_lost_or_torn_counter_makes_a_new_writer_and_reuses_no_number(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    writers = []
    for damage in (None, b"", b"torn"):
        if damage is not None:
            (tmp_path / "segments" / "worker-0.slot").write_bytes(damage)
        slot = storage.claim("worker-0")
        slot.append(b"some")
        slot.seal()
        slot.release()
        writers.append(slot.writer)
        for name in storage.names():
            storage.delete(name)
    assert len(set(writers)) == 3


def test_an_open_segment_is_sealed_for_who_asks(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    slot = storage.claim("worker-0")
    slot.append(b"some")
    assert not slot.asked()
    storage.ask_to_seal(storage.names()[0])
    assert slot.asked()
    slot.seal()
    assert not slot.asked()
    assert sorted(path.suffix for path in (tmp_path / "segments").iterdir()) == [".seg", ".slot"]
    slot.release()


def test_a_slot_needs_a_plain_name(tmp_path: Path) -> None:
    for name in ("", "../up", "a b", "a.b", "x" * 64):
        with pytest.raises(LedgerError, match="cannot name a slot"):
            LocalStorage(tmp_path).claim(name)


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "README").write_text("mine")
    assert storage.names() == []


def test_nobody_else_reads_segments(tmp_path: Path) -> None:
    slot = LocalStorage(tmp_path).claim("worker-0")
    slot.append(b"some")
    slot.release()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "segments").iterdir()} == {0o600}


def test_append_is_on_the_disk_and_not_only_in_memory(tmp_path: Path) -> None:
    """Each append is written, then synced, before it returns."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom passerelle.ledger import storage\n"
        "slot = storage.LocalStorage(Path(sys.argv[1])).claim('worker-0')\n"
        "slot.append(b'first')\nacts = []\n"
        "write, sync = os.write, os.fdatasync\n"
        "os.write = lambda file, data: (acts.append('write'), write(file, data))[1]\n"
        "os.fdatasync = lambda file: (acts.append('sync'), sync(file))[1]\n"
        "slot.append(b'second')\nprint(*acts)\n"
    )
    if sys.platform != "linux":
        pytest.skip("F_FULLFSYNC on macOS is not seen this way")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["write", "sync"]


@pytest.mark.parametrize("name", ["", "../../../esc", "a/b", "Staging", "staging\n"])
def test_a_ledger_cannot_be_named_out_of_the_project(name: str) -> None:
    with pytest.raises(LedgerError, match="cannot name an environment, so it has no ledger: take a small letter"):
        ledger_folder(Path("/p/.passerelle"), name)
