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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import obstore
import psycopg
import pytest
from ci_azure import run_azure
from ci_runner import Runner, run_github, run_gitlab
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from postgresql_server import running_server
from test_ci_jobs import commit

from passerelle.bundle.keys import public_hex, trust
from passerelle.project.scaffold import create

pytestmark = pytest.mark.timeout(2400 if os.environ.get("PASSERELLE_SOAK") else 600)


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


DEPLOYS = {"deploy-staging", "smoke", "load", "deploy-production"}
AZURES = {name.replace("-", "_") for name in DEPLOYS}
Begun = Callable[[str], Runner]


def test_the_whole_chain_killed_at_once_tried_and_rolled_back(
    repository: tuple[Path, str], database: str, bucket: dict[str, str], tmp_path: Path
) -> None:
    """Each job runs from a fresh clone; what is checked in the end are the database's and the store's own words."""
    folder, key = repository
    given = {"STATE_URL": database, "REGISTRY_URI": database, "KEY": key, "STORE": "s3://store/parcels"}

    def begun(name: str) -> Runner:
        made = Runner(folder, tmp_path / "runs" / name)
        made.given, made.cloud = {f"PASSERELLE_{name}": value for name, value in given.items()}, bucket
        return made

    run_github(runner := begun("push"))
    assert succeeded(runner) == {"check", "train", "report", *DEPLOYS}
    assert "Shared: parcels" in runner.printed["report: passerelle ci run report"]
    assert "20 answered" in runner.printed["smoke: passerelle ci run smoke"]
    assert "Version 1 answers in production" in runner.printed["deploy-production: passerelle ci run deploy-production"]
    kept = {path.suffix for path in runner.artefacts.rglob("*") if path.is_file()}
    assert kept <= {".html", ".ipynb", ".json"}, "pages only"

    store = open_bucket(bucket)
    for path in tmp_path.glob("*-2.csv"):
        obstore.put(store, f"incoming/{path.name}", path)
    retrained_at_once(begun)
    rolled_back(begun)
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT challenger, status FROM parcels.trials").fetchall()
    assert rows == [(2, "ended")]
    heads = sorted(one["path"] for some in obstore.list(store, "parcels/heads") for one in some)
    assert [int(Path(name).stem) for name in heads] == list(range(1, len(heads) + 1))
    files = json.loads(bytes(obstore.get(store, heads[-1]).bytes()))["files"]
    revisions = sorted(name for name in files if name.startswith("deployments/production/"))
    assert [Path(name).name for name in revisions] == ["000001.json", "000002.json", "000003.json"]
    assert len({name.split("/")[1] for name in files if name.startswith("bundles/")}) == 2
    if os.environ.get("PASSERELLE_SOAK"):
        in_others_words(begun)


def retrained_at_once(begun: Begun) -> None:
    """New data came into the bucket, and three are scheduled at once, two of them as whole chains.

    The one that trains is killed in the middle, which leaves nothing; of the two that wait for it one makes a version.
    Both deploy it: one revision, and one trial of version 2 against version 1.
    """
    killed = begin(runner := begun("killed"), "retrain", "retrain", runner.given)
    assert killed.stderr is not None
    assert any("cell 1/" in line for line in killed.stderr)
    github, azure = begun("github"), begun("azure")
    if not os.environ.get("PASSERELLE_SOAK"):
        github.believed = {"deploy-staging", "smoke", "load"}  # they were played after the push
    with ThreadPoolExecutor() as pool:
        chains = [pool.submit(run_github, github, event="schedule", schedule="17 4 * * *")]
        chains += [pool.submit(run_azure, azure, reason="Schedule", schedule="Retrain")]
        assert any("cell 5/" in line for line in killed.stderr)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        for chain in chains:
            chain.result(timeout=500)
    assert succeeded(github) == {"retrain", *DEPLOYS}
    assert succeeded(azure) == {"retrain", *AZURES}
    trained = [github.printed["retrain: passerelle ci run retrain"], azure.printed["retrain: retrain"]]
    assert sorted("Not retrained" in said for said in trained) == [False, True]
    deployed = [github.printed["deploy-production: passerelle ci run deploy-production"]]
    deployed += [azure.printed["deploy-production: deploy-production"]]
    for said in deployed:
        assert "Trial production-2-2 goes on: version 2 against version 1. production is at revision 2:" in said


def rolled_back(begun: Begun) -> None:
    """Production goes back, and is looked at; there is nothing to go further back to."""
    run_github(runner := begun("back"), event="workflow_dispatch", job="rollback")
    assert succeeded(runner) == {"rollback"}
    assert "Rolled back. production is at revision 3:" in runner.printed["rollback: passerelle ci run rollback"]
    github, azure = begun("look"), begun("look, too")
    with ThreadPoolExecutor() as pool:
        looks = [pool.submit(run_github, github, event="schedule", schedule="47 * * * *")]
        looks += [pool.submit(run_azure, azure, reason="Schedule", schedule="Judge")]
        for look in looks:
            look.result(timeout=300)
    assert succeeded(github) == succeeded(azure) == {"judge"}
    assert "production is at revision 3:" in azure.printed["judge: judge"]
    run_azure(runner := begun("further"), reason="Manual", parameter="rollback")
    assert runner.results["rollback"] == "failure"
    assert "there is nothing to roll back to" in runner.printed["rollback: rollback"]


def in_others_words(begun: Begun) -> None:
    """What the definitions of GitLab and Azure have not done yet, on what is there."""
    run_gitlab(runner := begun("push, gitlab"))
    assert succeeded(runner) == {"check", "train", "report", *DEPLOYS}
    run_gitlab(runner := begun("retrain, gitlab"), source="schedule")
    assert succeeded(runner) == {"retrain", *DEPLOYS}
    run_azure(runner := begun("push, azure"))
    assert succeeded(runner) == {"check", "train", "report", *AZURES}


def succeeded(runner: Runner) -> set[str]:
    """The jobs that did; all others were skipped."""
    printed = "\n".join(f"== {name}\n{text}" for name, text in runner.printed.items())
    assert set(runner.results.values()) <= {"success", "skipped"}, printed
    return {name for name, result in runner.results.items() if result == "success"}


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
