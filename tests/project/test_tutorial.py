"""The tutorial's commands do what it says they do, in its order."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/tutorial.md"


def steps() -> Iterator[tuple[str, list[str]]]:
    """Each command of the page, and the lines that it says are printed."""
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8")):
        for part in re.split(r"(?m)^\$ ", block)[1:]:
            command, *said = part.splitlines()
            yield command, said


def plain(line: str) -> str:
    """A line without what differs from run to run and from machine to machine: measures, moments, folders, names."""
    line = re.sub(r"\S*/\.passerelle/|\.passerelle/", "STATE/", line)
    line = re.sub(r"\b[0-9a-f]{16,}\b", "HASH", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "MOMENT", line)
    return re.sub(r"\b\d+(\.\d+)?e-\d+|\b\d+\.\d+|(?<=difference )0\b", "FIGURE", line).rstrip()


def test_what_differs_is_left_out_and_nothing_else() -> None:
    assert plain("gate    log_loss 0.2382 on 179 held-out rows") == "gate    log_loss FIGURE on 179 held-out rows"
    assert plain("report  /a/b/.passerelle/runs/5f2972c36b069ee54ae2/r.html") == plain(
        "report  .passerelle/runs/" + "0" * 20 + "/r.html"
    )
    assert plain("900 rows of events.") != plain("901 rows of events.")


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        free: int = one.getsockname()[1]
        return free


class Reader:
    """Somebody who types the commands of the page, one after the other."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.environment = {
            "HOME": str(folder / "home"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
            "LANG": "C.UTF-8",
        }
        (folder / "home").mkdir()

    def type(self, command: str) -> str:
        command = command.replace("localhost:8700", f"127.0.0.1:{self.port}")
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            return ""
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        with subprocess.Popen(
            ["passerelle", "serve", "--port", str(self.port)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                self.wait_until_ready()
                yield
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(30)

    def wait_until_ready(self) -> None:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError("the endpoint is not ready after two minutes")

    def improve_the_notebook(self) -> None:
        path = self.folder / "notebooks/model.ipynb"
        text = path.read_text(encoding="utf-8")
        assert "max_iter=1000" in text
        path.write_text(text.replace("max_iter=1000", "C=0.5, max_iter=1000"), encoding="utf-8")


@pytest.mark.timeout(600)  # half a minute on a quiet machine
def test_the_commands_print_what_the_page_says(tmp_path: Path, port: int) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")
    reader = Reader(tmp_path, port)
    trained = 0
    with contextlib.ExitStack() as stack:
        for command, said in steps():
            if command.startswith("pip install"):
                continue
            if command == "passerelle serve":
                stack.enter_context(reader.serving())
                continue
            if command == "passerelle train":
                trained += 1
                if trained == 2:
                    reader.improve_the_notebook()
            printed = [plain(line) for line in reader.type(command).splitlines()]
            expected = [plain(line) for line in said]
            assert [line for line in expected if line not in printed] == [], f"$ {command}\n" + "\n".join(printed)
    assert trained == 2
    assert (reader.folder / "cadrage.html").is_file()
