"""The chain on what its jobs share: a real PostgreSQL and an S3 that is emulated, from fresh clones, jobs killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import obstore
import psycopg
import pytest
from ci_runner import Runner, run_github
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from postgresql_server import running_server
from test_ci_jobs import commit

from passerelle.bundle.keys import public_hex, trust
from passerelle.project.scaffold import create

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def database() -> Iterator[str]:
    with running_server() as address:
        yield address


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """The variables by which a machine finds S3, in which there is a bucket called "store"."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    variables = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    # Its clock is an hour slow, so that a delivery has lain there for a while when the first job looks.
    script = f"""
from datetime import timedelta
from moto.s3 import models
from moto.server import main
now = models.utcnow
models.utcnow = lambda: now() - timedelta(hours=1)
main(["-H", "127.0.0.1", "-p", "{port}"])
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            until = time.monotonic() + 30
            while True:
                try:
                    request = urllib.request.Request(f"{address}/store", method="PUT")  # noqa: S310  (our own server)
                    urllib.request.urlopen(request, timeout=5).close()  # noqa: S310  (our own server)
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < until
                    time.sleep(0.1)
            yield variables
        finally:
            server.terminate()


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str]:
    """A project whose repository trusts a key, and the key. Its second delivery is to come by the bucket."""
    folder = tmp_path / "parcels"
    create(folder, "parcels", task="binary", language="en", time=True, today=date(2026, 3, 2))
    settings = (folder / "passerelle.toml").read_text(encoding="utf-8")
    settings = settings.replace("# cooldown_hours = 12", "cooldown_hours = 0")
    settings = settings.replace("[data]\n", '[data]\nbucket = "s3://store/incoming"\n')
    (folder / "passerelle.toml").write_text(settings, encoding="utf-8")
    for path in (folder / "deliveries").glob("*-2.csv"):
        path.rename(tmp_path / path.name)
    key = Ed25519PrivateKey.generate()
    trust(folder / ".passerelle", public_hex(key))
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    commit(folder, "A new project")
    form = serialization.PrivateFormat.PKCS8
    return folder, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def open_bucket(bucket: dict[str, str]) -> obstore.store.S3Store:
    return obstore.store.S3Store(
        "store",
        endpoint=bucket["AWS_ENDPOINT_URL"],
        access_key_id="test",
        secret_access_key="test",  # noqa: S106  (the emulator takes any)
        region="us-east-1",
        client_options={"allow_http": True},
    )


def begin(runner: Runner, job: str, machine: str, given: dict[str, str]) -> subprocess.Popen[str]:
    clone, environment = runner.machine(machine)
    command = [runner.python / "passerelle", "ci", "run", job, "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=clone, env=environment | given, text=True, start_new_session=True, **pipes)


def end(process: subprocess.Popen[str]) -> dict[str, object]:
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    found: dict[str, object] = json.loads(out)["details"]
    return found


def test_the_whole_chain_killed_at_once_tried_and_rolled_back(
    repository: tuple[Path, str], database: str, bucket: dict[str, str], tmp_path: Path
) -> None:
    """Each job runs from a fresh clone; what is checked in the end are the database's and the store's own words."""
    folder, key = repository
    shared = {"STATE_URL": database, "REGISTRY_URI": database, "KEY": key}
    runner = Runner(folder, tmp_path / "runs")
    runner.given = {f"secrets.PASSERELLE_{name}": value for name, value in shared.items()}
    runner.given["vars.PASSERELLE_STORE"] = "s3://store/parcels"
    runner.cloud = bucket
    given = {f"PASSERELLE_{name}": value for name, value in shared.items()} | {"PASSERELLE_STORE": "s3://store/parcels"}
    run_github(runner)  # a push
    printed = "\n".join(f"== {name}\n{text}" for name, text in runner.printed.items())
    skipped = {name for name, result in runner.results.items() if result == "skipped"}
    assert skipped == {"retrain", "judge", "rollback"}, printed
    assert set(runner.results.values()) == {"success", "skipped"}, printed
    assert "Shared: parcels" in runner.printed["report: passerelle ci run report"]
    assert "20 answered" in runner.printed["smoke: passerelle ci run smoke"]
    assert "Version 1 answers in production" in runner.printed["deploy-production: passerelle ci run deploy-production"]
    kept = {path.suffix for path in runner.artefacts.rglob("*") if path.is_file()}
    assert kept <= {".html", ".ipynb", ".json"}, "pages only"

    # New data come into the bucket, and three jobs are scheduled at once. The one that trains is killed in the middle,
    # which leaves nothing; of the two that wait for it one makes a version.
    store = open_bucket(bucket)
    for path in tmp_path.glob("*-2.csv"):
        obstore.put(store, f"incoming/{path.name}", path)
    killed = begin(runner, "retrain", "killed", given)
    assert killed.stderr is not None
    assert any("cell 1/" in line for line in killed.stderr)
    both = [begin(runner, "retrain", machine, given) for machine in ("one", "two")]
    assert any("cell 5/" in line for line in killed.stderr)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    trained = [end(one) for one in both]
    assert sorted((one.get("version", 0), one.get("made", False)) for one in trained) == [(0, False), (2, True)]

    # Two deploy at once: one revision, and one trial of version 2 against version 1. Production goes back.
    begun = [end(one) for one in [begin(runner, "deploy-production", machine, given) for machine in ("three", "four")]]
    trial = {"environment": "production", "revision": 2, "version": 1, "trial": "production-2-2"}
    assert begun == [trial, trial]
    assert end(begin(runner, "rollback", "five", given)) == trial | {"revision": 3, "trial": None}

    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT challenger, status FROM parcels.trials").fetchall()
    assert rows == [(2, "ended")]
    heads = sorted(one["path"] for some in obstore.list(store, "parcels/heads") for one in some)
    assert [int(Path(name).stem) for name in heads] == list(range(1, len(heads) + 1))
    files = json.loads(bytes(obstore.get(store, heads[-1]).bytes()))["files"]
    revisions = sorted(name for name in files if name.startswith("deployments/production/"))
    assert [Path(name).name for name in revisions] == ["000001.json", "000002.json", "000003.json"]
    assert len({name.split("/")[1] for name in files if name.startswith("bundles/")}) == 2


def test_jobs_say_what_they_lack(repository: tuple[Path, str], tmp_path: Path) -> None:
    runner = Runner(repository[0], tmp_path / "runs")
    # What was not given is empty, or (on Azure) its own name.
    given = {"PASSERELLE_STORE": "store", "PASSERELLE_STATE_URL": "$(PASSERELLE_STATE_URL)", "PASSERELLE_KEY": ""}
    lacks = {
        "deploy-staging": "set PASSERELLE_STATE_URL, PASSERELLE_REGISTRY_URI and PASSERELLE_STORE",
        "train": "PASSERELLE_STATE_URL and PASSERELLE_REGISTRY_URI are not set",
        "deplyo": "the jobs are check, test, train",
    }
    begun = {job: begin(runner, job, job, given if job == "train" else {}) for job in lacks}
    for job, words in lacks.items():
        said = begun[job].communicate(timeout=300)[1]
        assert (begun[job].returncode, words in said) == (2, True), said
