"""The image's entry, as a process, in each cloud's environment."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import msgspec
import numpy as np
import pandas as pd
import pytest
from doorway import CLIENT
from sklearn.linear_model import LogisticRegression

from passerelle.bundle.keys import public_hex, throwaway_key
from passerelle.bundle.manifest import GOLDEN, Provenance
from passerelle.bundle.seal import seal
from passerelle.deployment.package import DEPLOYMENT, SIGNATURE, Package, pack
from passerelle.deployment.spec import Deployment, Variant
from passerelle.ledger.segments import read_segment
from passerelle.ledger.storage import LocalStorage
from passerelle.notebook.submission import Answers, Submission, read_answers
from passerelle.project.settings import load_project
from passerelle.schema import Column, Schema
from passerelle.serving import container
from passerelle.serving.tokens import make_token, tokens_path

KEY = throwaway_key()
SCHEMA = Schema(columns=(Column(name="hour", kind="integer"), Column(name="wind", kind="number")))
FRAME = pd.DataFrame({"hour": [5, 6, 23, 0] * 5, "wind": np.linspace(1, 20, 20)})
#: The container, with a platform's folders elsewhere than at the root of this machine.
HERE = (
    "import sys; from pathlib import Path; from passerelle.serving import container;"
    "container.main(['serve'], places=[Path(place) for place in sys.argv[1:]])"
)
START_S = 5.0


def packed(root: Path, *, model: Any = None, key: Any = KEY, **changes: Any) -> Package:
    """A package whose bundle was trained on another machine: its interpreter is not here."""
    model = model or LogisticRegression().fit(FRAME, FRAME["hour"] + FRAME["wind"] > 15)
    submission = root / "submission"
    submission.mkdir(parents=True)
    (submission / "model.pkl").write_bytes(cloudpickle.dumps({"model": model, "features": None, "events": None}))
    rows = SCHEMA.validate(FRAME.to_dict("records"))
    Answers(inputs=rows, outputs=model.predict_proba(FRAME)[:, 1:]).write(submission / GOLDEN)
    submitted = Submission(
        schema=SCHEMA,
        classes=(False, True),
        x_columns=SCHEMA.names,
        constants=(),
        rows=len(FRAME),
        proofs={},
        python="/home/of/the/data/scientist/.venv/bin/python",
        python_version=platform.python_version(),
        platform=platform.platform(),
        packages={},
        has_features=False,
    )
    (submission / "submission.json").write_bytes(msgspec.json.encode(submitted))
    (root / "passerelle.toml").write_text(
        '[project]\nname = "flights"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
    )
    project = load_project(root / "passerelle.toml")
    made = datetime(2026, 1, 5, tzinfo=UTC)
    bundle = seal(
        submission,
        into=project.state / "bundles",
        project=project,
        provenance=Provenance(created_at=made),
        metrics={},
        key=KEY,
    )
    deployment = Deployment(
        **{
            "project": "flights",
            "environment": "production",
            "revision": 7,
            "variants": (Variant(version=3, bundle=str(bundle.path), digest=bundle.digest),),
            "salt": "salt",
            "trusted_keys": (public_hex(KEY),),
            "auth": "platform",
            "ledger_at": str(root / "ledger"),
            "created_at": made,
            "reason": "a test",
            **changes,
        }
    )
    return pack(project, deployment, key=key, into=root / "packages")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return packed(tmp_path_factory.mktemp("packed"))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(variables: dict[str, str], *places: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HERE, *map(str, places)],
        env={"PATH": os.environ["PATH"], "PASSERELLE_HOST": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        | {"PASSERELLE_TRUSTED_KEYS": f"{'0' * 64} {public_hex(KEY)}"}
        | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(variables: dict[str, str], *places: Path, port: int) -> Iterator[tuple[str, list[int]]]:
    """The container's address, once it answers, and what /ping said until then."""
    process = start(variables, *places)
    url, said = f"http://127.0.0.1:{port}", []
    try:
        until = time.monotonic() + 30
        while said[-1:] != [200] and time.monotonic() < until and process.poll() is None:
            try:
                said.append(CLIENT.get(f"{url}/ping", timeout=2).status_code)
            except httpx.ConnectError:
                said.append(0)
            time.sleep(0.02)
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        yield url, said
    finally:
        process.terminate()
        process.communicate(timeout=30)


def clouds(package: Package, folder: Path, port: int) -> dict[str, tuple[dict[str, str], list[Path]]]:
    """What each platform sets and where it puts the package."""
    mounted = folder / "azureml-models" / "flights" / "7"
    mounted.mkdir(parents=True)
    (mounted / package.name).symlink_to(package.folder)
    at = str(port)
    return {
        "sagemaker": ({"SAGEMAKER_BIND_TO_PORT": at, "PORT": "1"}, [package.folder, folder / "mnt"]),
        "vertex": (
            {
                "AIP_MODE": "PREDICTION",
                "AIP_HTTP_PORT": at,
                "AIP_STORAGE_URI": f"file://{package.folder}",
                "AIP_PREDICT_ROUTE": "/predict",
                "AIP_HEALTH_ROUTE": "/health",
            },
            [],
        ),
        "azureml": ({"PORT": at, "AZUREML_MODEL_DIR": str(mounted), "AIP_STORAGE_URI": ""}, []),
        "kubernetes": ({"PORT": at}, [folder / "opt", package.folder]),
        "own": ({"PORT": at, "PASSERELLE_PACKAGE": str(package.folder), "AZUREML_MODEL_DIR": "/nowhere"}, []),
    }


ASKED = {
    "sagemaker": ("/ping", "/invocations"),
    "vertex": ("/health", "/predict"),
    "azureml": ("/ping", "/score"),
    "kubernetes": ("/v2/health/ready", "/v1/models/flights-production:predict"),
    "own": ("/ready", "/predict"),
}


@pytest.mark.parametrize("cloud", ASKED)
def test_each_clouds_environment_answers_the_notebooks_golden_rows(
    package: Package, tmp_path: Path, cloud: str
) -> None:
    port = free_port()
    variables, places = clouds(package, tmp_path, port)[cloud]
    probe, ask = ASKED[cloud]
    started = time.monotonic()
    with running(variables, *places, port=port) as (url, said):
        assert time.monotonic() - started < START_S
        assert 503 in said
        assert said == sorted(said, key=[0, 503, 200].index)  # once it is up, it stays up
        assert CLIENT.get(url + probe).status_code == 200
        assert CLIENT.get(f"{url}/v2/health/live").status_code == 200
        bundle = next((package.folder / "bundles").iterdir())
        golden = read_answers(bundle / GOLDEN)
        rows = SCHEMA.rows(golden.inputs)
        reply = CLIENT.post(url + ask, json={"instances": rows}, timeout=10)
        assert reply.status_code == 200, reply.text
        served = [one["probability"] for one in reply.json()["predictions"]]
        assert np.abs(np.array(served) - golden.outputs[:, 0]).max() <= 1e-12
        assert {(one["version"], one["revision"]) for one in reply.json()["predictions"]} == {(3, 7)}
    records = written(package)
    assert [one.inputs for one in records[-len(rows) :]] == rows


def written(package: Package) -> list[Any]:
    """What the ledger of a package's deployment holds."""
    at = msgspec.json.decode((package.folder / DEPLOYMENT).read_bytes())["ledger_at"]
    storage = LocalStorage(Path(at))
    return [one for name in storage.names() for one in read_segment(storage.read(name) or b"")[0]]


def refused(variables: dict[str, str], *places: Path) -> tuple[int, str]:
    process = start({"PORT": str(free_port())} | variables, *places)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    return process.returncode, said


def test_what_may_not_be_served_is_refused_in_a_sentence(package: Package, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        import shutil

        return Path(shutil.copytree(package.folder, tmp_path / name))

    unsigned = copy("unsigned")
    (unsigned / SIGNATURE).unlink()
    tampered = copy("tampered")
    data = (tampered / DEPLOYMENT).read_text()
    (tampered / DEPLOYMENT).write_text(data.replace('"reason": "a test"', '"reason": "a tast"'))
    changed = copy("changed")
    (next((changed / "bundles").iterdir()) / "model.pkl").write_bytes(b"cos\nsystem\n")
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a", "b"):
        (twice / name).symlink_to(package.folder)
    right = {"PASSERELLE_PACKAGE": str(package.folder)}
    listener = socket.create_server(("127.0.0.1", 0))
    taken = listener.getsockname()[1]
    for variables, places, words in (
        ({"PASSERELLE_PACKAGE": str(unsigned)}, (), "is not signed"),
        ({"PASSERELLE_PACKAGE": str(tampered)}, (), "does not belong to deployment.json"),
        ({"PASSERELLE_PACKAGE": str(changed)}, (), "model.pkl was changed or cut short"),
        (right | {"PASSERELLE_TRUSTED_KEYS": "0" * 64}, (), "which is not trusted here (1 keys are)"),
        (right | {"PASSERELLE_TRUSTED_KEYS": ""}, (), "this image trusts no key"),
        (right | {"PASSERELLE_REVISION": "8"}, (), "PASSERELLE_REVISION is '8', and the package is of '7'"),
        (right | {"PASSERELLE_ENVIRONMENT": "staging"}, (), "and the package is of 'production'"),
        (right | {"PASSERELLE_PROJECT": "fares"}, (), "PASSERELLE_PROJECT is 'fares', and the package is of"),
        (right | {"AIP_HTTP_PORT": "http"}, (), "AIP_HTTP_PORT is 'http', which is no port"),
        (right | {"AIP_HTTP_PORT": str(taken)}, (), "or name another by the variable PORT"),
        (right | {"PASSERELLE_PYTHON": "/no/python"}, (), "PASSERELLE_PYTHON is '/no/python', which is no program"),
        (right | {"PASSERELLE_TOKENS_FILE": "/no/file"}, (), "PASSERELLE_TOKENS_FILE is '/no/file', and there is no"),
        ({}, (tmp_path / "nothing",), "there is no package"),
        ({}, (twice,), "2 packages are there"),
        ({"AZUREML_MODEL_DIR": str(tmp_path / "nothing")}, (), "no package is there"),
        ({"AIP_STORAGE_URI": f"file://{tmp_path}/empty"}, (), "there is nothing at"),
    ):
        code, said = refused(variables, *places)
        assert words in said, said
        assert code != 0
    listener.close()


def test_what_the_platforms_set_counts_in_the_order_of_the_documentation(tmp_path: Path) -> None:
    ports = {"SAGEMAKER_BIND_TO_PORT": "9001", "AIP_HTTP_PORT": "9002", "PORT": "9003"}
    for at in ("9001", "9002", "9003", "8080"):
        assert container.port_of(ports) == int(at)
        ports = {name: value for name, value in ports.items() if value != at}
    folders = [tmp_path / name for name in ("own", "vertex", "azureml", "opt", "mnt")]
    for folder in folders:
        folder.mkdir()
        (folder / DEPLOYMENT).touch()
    own, vertex, azureml, opt, mnt = folders
    variables = {
        "PASSERELLE_PACKAGE": str(own),
        "AIP_STORAGE_URI": f"file://{vertex}",
        "AZUREML_MODEL_DIR": str(azureml),
    }
    fetched = tmp_path / "fetched"
    for name, expected in zip([*variables, None], [own, fetched, azureml, opt], strict=True):
        assert container.find_package(variables, [opt, mnt], fetched) == expected
        variables.pop(name or "", None)
    (opt / DEPLOYMENT).unlink()  # an empty folder holds no model
    assert container.find_package({}, [opt, mnt], fetched) == mnt


def test_a_model_whose_package_the_image_lacks_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("boosting_of_the_notebook")
    kind = type("Model", (LogisticRegression,), {"__module__": module.__name__})
    module.Model = kind  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, module.__name__, module)
    model = kind().fit(FRAME, FRAME["wind"] > 5)
    package = packed(tmp_path, model=model)
    code, said = refused({}, package.folder)
    assert (code, "No module named 'boosting_of_the_notebook'" in said) == (1, True), said


def test_tokens_are_asked_for_where_the_deployment_says_so(tmp_path: Path) -> None:
    package = packed(tmp_path, auth="tokens")
    for named in ({}, {"PASSERELLE_TOKENS_FILE": str(tmp_path / "nothing")}):
        code, said = refused({"PASSERELLE_HOST": "127.0.0.1"} | named, package.folder)
        assert (code, "mount a project's tokens.json" in said) == (1, True), said
    path = tokens_path(tmp_path)
    token = make_token(path, name="a", scopes=("predict",), created_at=datetime.now(UTC))
    port = free_port()
    with running({"PORT": str(port), "PASSERELLE_TOKENS_FILE": str(path)}, package.folder, port=port) as (url, _):
        body = {"instances": [{"hour": 5, "wind": 1.0}]}
        assert CLIENT.post(f"{url}/invocations", json=body).status_code == 401
        allowed = {"authorization": f"Bearer {token}"}
        assert CLIENT.post(f"{url}/invocations", json=body, headers=allowed).status_code == 200
        assert CLIENT.get(f"{url}/metrics", headers=allowed).status_code == 403


def test_it_ends_while_it_starts_too(package: Package) -> None:
    port = free_port()
    process = start({"PORT": str(port)}, package.folder)
    while process.poll() is None:
        try:
            assert CLIENT.get(f"http://127.0.0.1:{port}/v2/health/live", timeout=2).status_code == 200
            break
        except httpx.ConnectError:
            time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode in (0, 143)


def test_another_act_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "passerelle.serving.container", "dance"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "the container can serve or train, not 'dance'.\n")
