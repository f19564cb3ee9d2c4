"""A lease is held by one process at a time, and dies with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from passerelle.state.lease import LeaseError, lease

HOLD = """
import sys
from pathlib import Path
from passerelle.state.lease import lease
with lease(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_error_names_the_process_that_holds_it(tmp_path: Path) -> None:
    with _holder(tmp_path) as process:
        with (
            pytest.raises(LeaseError, match=f"process {process.pid} holds the lease 'train'"),
            lease(tmp_path, "train"),
        ):
            pass
        with lease(tmp_path, "ingest"):
            pass  # another purpose


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    with _holder(tmp_path) as process:
        process.kill()
        process.wait()
        with lease(tmp_path, "train"):
            pass


def test_a_lease_can_be_waited_for(tmp_path: Path) -> None:
    with _holder(tmp_path) as process:
        with pytest.raises(LeaseError), lease(tmp_path, "train", wait_s=0.1):
            pass
        assert process.stdin is not None
        process.stdin.close()
        with lease(tmp_path, "train", wait_s=10):
            pass


def test_the_same_process_cannot_take_it_twice(tmp_path: Path) -> None:
    with lease(tmp_path, "train"), pytest.raises(LeaseError), lease(tmp_path, "train"):
        pass


def test_it_is_given_back_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lease(tmp_path, "train"):
        raise KeyError
    with lease(tmp_path, "train"):
        assert (tmp_path / "leases" / "train.lock").read_text()
    assert not (tmp_path / "leases" / "train.lock").read_text()
