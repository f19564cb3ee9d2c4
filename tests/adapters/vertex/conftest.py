"""A server that speaks Google's interfaces, in a process of its own, and a target on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from vertexing import Google


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of the server."""
    script = Path(__file__).with_name("googling.py")
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def google(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Google:
    """The server with nothing in it, and what is needed to open targets on it."""
    monkeypatch.setenv("PASSERELLE_VERTEX_ADDRESS", server)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    found = Google(server, tmp_path)
    found.order(clear=True)
    return found
