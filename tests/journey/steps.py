"""Steps of a journey: the commands that a user types, as real processes, and requests to a real endpoint."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from passerelle.bundle.manifest import Manifest
from passerelle.notebook.submission import Answers

PASSERELLE = Path(sys.executable).with_name("passerelle")


def run(*arguments: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """A command of ours in a folder; what it printed, both streams. Fails if its exit code is another."""
    done = subprocess.run(
        [str(PASSERELLE), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == code, f"passerelle {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def run_json(*arguments: str, cwd: Path) -> Any:
    """A command with --json, decoded; its progress goes to stderr, unheard."""
    done = subprocess.run([str(PASSERELLE), *arguments, "--json"], cwd=cwd, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


class Client:
    """One kept-alive connection to an endpoint."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded answer."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        self.connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        content = answer.read()
        is_json = "json" in (answer.getheader("Content-Type") or "")
        return answer.status, json.loads(content) if is_json else content.decode()

    def predict(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to many events; fails if the endpoint refused them."""
        status, answer = self.ask("POST", "/predict", {"events": events})
        assert status == 200, answer
        found: list[dict[str, Any]] = answer["predictions"]
        return found

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Client]:
    """``passerelle serve`` as a user starts it, on a free port, until the block ends."""
    process = subprocess.Popen(
        [str(PASSERELLE), "serve", "--port", "0", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    url = None
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"http://[\d.]+:\d+", line):
            url = found.group()
            break
    assert url is not None, f"serve ended with {process.wait()}:\n{''.join(said)}"
    listening = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
    listening.start()
    client = Client(url)
    try:
        yield client
    finally:
        client.close()
        process.terminate()
        assert process.wait(20) == 0, "".join(said)
        listening.join(10)
        process.stdout.close()


def number(answer: dict[str, Any], manifest: Manifest) -> list[float]:
    """An answer as the scorer's numbers."""
    if manifest.task == "regression":
        return [answer["prediction"]]
    if manifest.task == "binary":
        return [answer["probability"]]
    return [answer["probability"][label] for label in manifest.classes]


def largest_difference(client: Client, manifest: Manifest, answers: Answers, *, singles: int = 40) -> float:
    """Rows through the live endpoint singly, in sevens, shuffled and together, against the notebook's own answers."""
    rows = manifest.schema.rows(answers.inputs)
    order = list(range(len(rows)))
    shuffled = random.Random(1).sample(order, len(order))  # noqa: S311  (an order, not a secret)
    batches = [[one] for one in order[:singles]]
    batches += [order[first : first + 7] for first in range(0, len(order), 7)]
    batches += [shuffled[first : first + 50] for first in range(0, len(order), 50)]
    batches += [order[first : first + 1000] for first in range(0, len(order), 1000)]
    worst = 0.0
    for batch in batches:
        answered = client.predict([{"inputs": rows[one]} for one in batch])
        served = np.array([number(one, manifest) for one in answered])
        expected = answers.outputs[batch]
        scale = np.maximum(1, np.abs(expected)) if manifest.task == "regression" else 1
        worst = max(worst, float((np.abs(served - expected) / scale).max()))
    return worst
