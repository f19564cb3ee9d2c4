"""The process: it says where it answers, ends with whoever started it, and says why it cannot start."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import httpx

from passerelle.project.settings import Project


def command(project: Project, *more: str) -> list[str]:
    return [sys.executable, "-m", "passerelle.dashboard.process", "--root", str(project.root), *more]


def test_it_answers_and_ends_when_its_input_does(bare: Project) -> None:
    started = subprocess.Popen(
        command(bare, "--port", "0", "--until-stdin-closes"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdin is not None
    with started:
        line = started.stdout.readline()
        found = re.fullmatch(r"ready (http://127\.0\.0\.1:\d+)\n", line)
        assert found is not None
        assert "there is no version." in httpx.get(found[1], timeout=20).text
        started.stdin.close()
        assert started.wait(20) == 0


def test_it_says_why_it_cannot_start(bare: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(command(bare, "--port", port), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"passerelle: 127.0.0.1:{port} is taken: name another with --port, or end what listens there.\n"
    )
    done = subprocess.run(command(bare, "--host", "0.0.0.0"), capture_output=True, text=True, check=False)  # noqa: S104  (it is refused)
    assert done.returncode == 1
    assert "there is no token" in done.stderr
