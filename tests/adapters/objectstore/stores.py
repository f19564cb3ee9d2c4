"""The object stores that tests write to: real servers on 127.0.0.1, each with a bucket that is empty at first."""

from __future__ import annotations

import base64
import hmac
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
AZURITE = ROOT / ".tools" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
BUCKET = "passerelle-tests"
STORES = ("s3", "az", "gs")
#: Azurite's account, which is the same everywhere and in its manual.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_START_S = 30.0


@contextmanager
def running(scheme: str) -> Iterator[dict[str, str]]:
    """A store of this scheme that runs, with BUCKET in it: the variables by which a process finds it."""
    if scheme == "az" and not AZURITE.exists():
        pytest.skip(f"{AZURITE} is not there: run make test-system")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command, variables = {
        "s3": (
            [sys.executable, "-c", f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"],
            {
                "AWS_ENDPOINT_URL": address,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
            },
        ),
        "az": (
            [str(AZURITE), "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence",
             "--blobHost", "127.0.0.1", "--blobPort", str(port)],
            {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": address},
        ),
        "gs": (
            [sys.executable, str(Path(__file__).with_name("gcs_server.py")), str(port), BUCKET],
            {"STORAGE_EMULATOR_HOST": address},
        ),
    }[scheme]  # fmt: skip
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _wait(server, port, log)
            _make_bucket(scheme, address)
            yield variables
        finally:
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: object) -> None:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    log.seek(0)  # type: ignore[attr-defined]
    raise AssertionError(f"{server.args!r} does not listen: {log.read()!r}")  # type: ignore[attr-defined]


def _make_bucket(scheme: str, address: str) -> None:
    if scheme == "s3":
        _put(f"{address}/{BUCKET}", {})
    elif scheme == "az":
        date = formatdate(usegmt=True)
        said = (
            "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
            f"/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}\nrestype:container"
        )
        signature = base64.b64encode(hmac.digest(base64.b64decode(_KEY), said.encode(), "sha256")).decode()
        headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
        headers["Authorization"] = f"SharedKey {_ACCOUNT}:{signature}"
        _put(f"{address}/{_ACCOUNT}/{BUCKET}?restype=container", headers)


def _put(url: str, headers: dict[str, str]) -> None:
    request = urllib.request.Request(url, method="PUT", headers=headers)  # noqa: S310  (127.0.0.1)
    urllib.request.urlopen(request).close()  # noqa: S310  (the same)
