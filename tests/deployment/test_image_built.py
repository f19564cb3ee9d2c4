"""The image, built by buildah on a root file system of Debian's, pushed to a registry, started as each cloud does.

What this does not show: a kernel that keeps containers apart (chroot isolation shares the host's network), and that a
cloud pulls it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import msgspec
import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from image_jobs import ImageJobs
from image_store import in_a_store

from passerelle.bundle.keys import public_hex, throwaway_key, trust
from passerelle.bundle.manifest import Provenance, read_manifest
from passerelle.bundle.seal import seal
from passerelle.data.landing import ingest
from passerelle.deployment.image import ROOT, SERVING, TRAINING, Context, build, dockerfile, push, write_context
from passerelle.deployment.image_facts import ImageError, ImageFacts, ask, check_architecture, inspect
from passerelle.deployment.package import Package, pack
from passerelle.deployment.spec import Deployment, Variant
from passerelle.deployment.target import PlanError
from passerelle.deployment.wheelhouse import pins
from passerelle.errors import NotebookError
from passerelle.loop.jobs import run_as_job
from passerelle.loop.train import train
from passerelle.notebook.submission import Answers, Submission
from passerelle.project.settings import Project, load_project
from passerelle.schema import Column, Schema

ROOT_FILES = Path(__file__).parents[2] / ".tools/rootfs.tar"
PARTS = ("buildah", "skopeo", "docker-registry")
MISSING = [*(part for part in PARTS if shutil.which(part) is None), *([] if ROOT_FILES.exists() else [ROOT_FILES.name])]
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: sudo make test-system"),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah needs root for chroot isolation"),
]
KEY = throwaway_key()
MADE = datetime(2013, 2, 1, tzinfo=UTC)
SCHEMA = Schema(columns=(Column(name="hour", kind="integer"), Column(name="wind", kind="number")))
EVENT = {"hour": 23, "wind": 4.5}
#: Of the processor's time, from the start of the process to the first healthy answer.
READY_S, START_S = 5.0, 60.0
#: What trains is more than 1 GB, which takes minutes to copy from layer to layer: only the long tests build it.
SOAK = bool(os.environ.get("PASSERELLE_SOAK"))
EXTRAS = TRAINING if SOAK else SERVING
LEARNING = ("scikit-learn", "joblib", "threadpoolctl") if SOAK else ()
#: That the images of a test take, and as much again.
ROOM_BYTES = 16 * 10**9 if SOAK else 4 * 10**9


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Land:
    """A project with a version, its package, its image, and the registry that has it."""

    def __init__(self, project: Project, package: Package, expected: float, registry: str) -> None:
        self.project, self.package, self.expected, self.registry = project, package, expected, registry
        self.context: Context | None = None
        self.pushed, self.digest = "", ""
        self.facts: ImageFacts | None = None


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """buildah's own folder, and its settings."""
    memory = Path("/dev/shm")  # noqa: S108  (without a daemon each layer is a copy of all below it: quicker in memory)
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES
    folder = Path(tempfile.mkdtemp(dir=memory)) if roomy else tmp_path_factory.mktemp("storage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
        )
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def registry(storage: Path) -> Iterator[str]:
    port = free_port()
    at = f"127.0.0.1:{port}"
    (storage / "registries.conf").write_text(f'[[registry]]\nlocation = "{at}"\ninsecure = true\n')
    (storage / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {storage}/registry}}}}\nhttp: {{addr: '{at}'}}\n"
    )
    with (storage / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", storage / "registry.yml"], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://{at}/v2/")
                break
            time.sleep(0.05)
        yield at
    finally:
        process.terminate()
        process.wait(10)


def run(*command: Any) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def made_project(root: Path) -> tuple[Project, Package, float]:
    """A version with a compiled form, made in an environment of what serves and no more; and its package."""
    from sklearn.linear_model import LogisticRegression

    from passerelle.bundle.compile import compile_form
    from passerelle.bundle.export import export

    (root / "passerelle.toml").write_text(
        '[project]\nname = "flights"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
    )
    project = load_project(root / "passerelle.toml")
    trust(project.state, public_hex(KEY))
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": generator.integers(0, 24, 200), "wind": generator.normal(10, 3, 200)})
    model = LogisticRegression().fit(frame, frame["hour"] + frame["wind"] > 20)
    folder = root / "submission"
    folder.mkdir()
    submission = Submission(
        schema=SCHEMA,
        classes=(False, True),
        x_columns=SCHEMA.names,
        constants=(),
        rows=len(frame),
        proofs={},
        has_features=False,
        python="/of/the/training/machine/python",
        python_version=platform.python_version() if SOAK else "3.11.2",
        platform="linux",
        packages=pins(EXTRAS, "3.11") | {name: importlib.metadata.version(name) for name in LEARNING},
    )
    (folder / "submission.json").write_bytes(msgspec.json.encode(submission))
    (folder / "model.pkl").write_bytes(cloudpickle.dumps({"model": model, "features": None, "events": None}))
    rows = {"hour": frame["hour"].to_numpy(np.int64), "wind": frame["wind"].to_numpy(float)}
    Answers(inputs=rows, outputs=model.predict_proba(frame)[:, 1:]).write(folder / "golden.msgpack")
    export(model, SCHEMA, task="binary", classes=(False, True), into=root / "described")
    compile_form(root / "described", root / "inline")
    bundle = seal(
        folder,
        into=project.state / "bundles",
        project=project,
        provenance=Provenance(created_at=MADE),
        metrics={},
        key=KEY,
        inline=root / "inline",
    )
    deployment = Deployment(
        project="flights",
        environment="production",
        revision=3,
        variants=(Variant(version=1, bundle=str(bundle.path), digest=bundle.digest),),
        salt="salt",
        trusted_keys=(public_hex(KEY),),
        auth="platform",
        created_at=MADE,
        reason="first",
    )
    expected = float(model.predict_proba(pd.DataFrame([EVENT]))[0, 1])
    return project, pack(project, deployment, key=KEY, into=root / "packages"), expected


@pytest.fixture(scope="module")
def land(registry: str, tmp_path_factory: pytest.TempPathFactory) -> Land:
    root = tmp_path_factory.mktemp("flights")
    container = run("buildah", "from", "scratch")
    run("buildah", "add", "-q", container, ROOT_FILES, "/")
    if SOAK:  # what trains needs a newer Python than Debian's 3.11.2: the one that runs here
        run("buildah", "add", "-q", container, sys.base_prefix, sys.base_prefix)
        run("buildah", "run", container, "--", "chmod", "755", *list(Path(sys.base_prefix).parents)[:-1])
        run("buildah", "config", "--env", f"PATH={sys.base_prefix}/bin:/usr/bin:/bin", container)
    run("buildah", "commit", "-q", "-D", "--rm", "--tls-verify=false", container, f"docker://{registry}/python:3.11")
    made = Land(*made_project(root), registry)
    manifest, _ = read_manifest(next((made.project.state / "bundles").iterdir()))
    made.context = write_context(
        made.project, manifest.environment, root / "image", base=f"{registry}/python:3.11", extras=EXTRAS
    )
    made.pushed = build(made.context, f"{registry}/flights:1")
    made.digest = push(made.pushed)
    return made


def seen_by_the_registrys_interface(land: Land) -> None:
    facts = inspect(land.pushed)
    seen = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{land.pushed}"))
    assert facts.digest == seen["Digest"]
    assert facts.architectures == (seen["Architecture"],) == ("amd64",)
    assert facts.labels.items() <= seen["Labels"].items()
    assert facts.labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert facts.labels["io.passerelle.version"] == importlib.metadata.version("passerelle")
    assert facts.user == "65532:65532"
    assert facts.entrypoint == ("/opt/passerelle/bin/python", "-m", "passerelle.serving.container")
    assert land.digest == f"{land.registry}/flights@{facts.digest}"
    by_digest = inspect(land.digest)
    assert by_digest == facts
    with pytest.raises(ImageError, match="machines are arm64"):
        check_architecture(land.pushed, facts, "arm64")
    assert ask(land.pushed, "amd64") == ()
    with pytest.raises(PlanError, match=r"built for amd64.*\(rule image-architecture\)"):
        ask(land.pushed, "arm64")
    with pytest.raises(ImageError, match="not in its registry"):
        inspect(f"{land.registry}/flights:2")


def holds_no_model_no_row_and_no_secret(container: str) -> None:
    top = Path(run("buildah", "mount", container))
    try:
        left = {path.name for path in (top / "opt/passerelle").rglob("*") if path.is_file()}
        assert "container.py" in left
        assert not left & {"manifest.json", "model.pkl", "golden.msgpack", "key.pem"}
        assert not (top / "wheels").exists()
        size = sum(path.stat().st_size for path in (top / "opt/passerelle").rglob("*") if path.is_file())
        assert size < (2e9 if SOAK else 300e6)
    finally:
        run("buildah", "umount", container)


STARTS = {
    "sagemaker": ("/opt/ml/model", {}, ["serve"], "SAGEMAKER_BIND_TO_PORT", "/ping", "/invocations"),
    "vertex": (
        "/tmp/artifact",  # noqa: S108  (in the container)
        {"AIP_MODE": "PREDICTION", "AIP_STORAGE_URI": "/tmp/artifact", "AIP_HEALTH_ROUTE": "/health"},  # noqa: S108
        ["serve"],
        "AIP_HTTP_PORT",
        "/health",
        "/predict",
    ),
    "azureml": (
        "/var/azureml-app/azureml-models/flights/1/3",
        {"AZUREML_MODEL_DIR": "/var/azureml-app/azureml-models/flights/1"},
        [],
        "PORT",
        "/v2/health/ready",
        "/score",
    ),
    "kserve": ("/mnt/models", {}, [], "PORT", "/v2/health/ready", "/v1/models/flights:predict"),
}


def test_it_is_pushed_seen_and_serves_as_each_cloud_starts_it(land: Land, tmp_path: Path) -> None:
    """One test: in several processes of pytest the image would be built in each."""
    seen_by_the_registrys_interface(land)
    container = run("buildah", "from", land.pushed)
    try:
        holds_no_model_no_row_and_no_secret(container)
        for cloud in STARTS:
            serves(land, container, cloud, tmp_path / cloud)
        with in_a_store(land.package.folder) as variables:
            serves(land, container, "s3", tmp_path / "s3", variables)
        trains(land, container, tmp_path)
    finally:
        run("buildah", "rm", container)


def insides() -> list[psutil.Process]:
    """The container's own processes, buildah's not."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        words = one.info["cmdline"] or [""]
        if words[0] == "/opt/passerelle/bin/python" and "passerelle.serving.container" in words:
            found.append(one)
    return found


def user_at(cloud: str, land: Land) -> str:
    """Who a cloud's image runs as. SageMaker's differs from the others' in nothing else, so that it is not built."""
    assert land.context is not None
    ours = (land.context.folder / "Dockerfile").read_text()
    theirs = dockerfile(msgspec.structs.replace(land.context.recipe, user=ROOT))
    changed = set(theirs.splitlines()) ^ set(ours.splitlines())
    assert {line for line in changed if not line.startswith("#")} == {f"USER {ROOT}", "USER 65532:65532"}
    return ROOT if cloud == "sagemaker" else "65532:65532"


def serves(land: Land, container: str, cloud: str, log: Path, told: dict[str, str] | None = None) -> None:
    place, variables, arguments, port_name, probe, route = STARTS["kserve" if told else cloud]
    mounted = [] if told else ["--volume", f"{land.package.folder}:{place}:ro"]
    user = user_at(cloud, land)
    port = free_port()
    entry = inspect(land.pushed).entrypoint
    given = [
        word
        for name, value in {**variables, **(told or {}), port_name: str(port)}.items()
        for word in ("--env", f"{name}={value}")
    ]
    as_root = ["--user", user] if user == ROOT else []  # the others' stands in the image
    command = ["buildah", "run", *as_root, *given, *mounted, container, "--"]
    begun = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *entry, *arguments], stdout=out, stderr=out)
    try:
        status = 0
        while status != 200 and time.monotonic() - begun < START_S:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                status = httpx.get(f"http://127.0.0.1:{port}{probe}", timeout=2).status_code
            time.sleep(0.02)
        assert status == 200, log.read_text()
        (inside,) = insides()
        took_s = time.time() - inside.create_time()
        # What the container needs, whoever else has the machine: seconds of the processor.
        used_s = sum(sum(one.cpu_times()[:2]) for one in (inside, *inside.children(recursive=True)))
        print(f"{cloud}: {took_s:.2f} s to the first healthy probe, {used_s:.2f} s of the processor")  # noqa: T201
        assert f"{inside.uids().real}:{inside.gids().real}" == user
        answer = httpx.post(f"http://127.0.0.1:{port}{route}", json={"instances": [EVENT]}, timeout=10).json()
        assert str(land.expected)[:8] in json.dumps(answer["predictions"]), answer
        assert used_s < READY_S
    finally:
        end(process)


CELLS = (
    "import passerelle\nfrom sklearn.linear_model import LogisticRegression",
    "raw = passerelle.training_data()\nX = raw[['hour', 'wind']]",
    "passerelle.submit(LogisticRegression().fit(X, raw['late']), X=X)",
)


def trains(land: Land, container: str, folder: Path) -> None:
    """The same image trains: what it makes is what is made here, or it says that it was built to serve only."""
    project = land.project
    path = project.root / project.notebook.path
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS]), path)
    events = pd.DataFrame({"id": [f"{n}" for n in range(240)], "hour": np.arange(240) % 24, "wind": 4.5})
    outcomes = events[["id"]].assign(late=events["hour"] > 12, known_at="2013-01-01T00:00:00Z")
    for table, frame in (("events", events), ("outcomes", outcomes)):
        frame.to_csv(folder / f"{table}.csv", index=False)
        assert ingest(project, [folder / f"{table}.csv"], now=MADE)[0].status == "accepted"
    jobs = ImageJobs(folder / "ml", container, inspect(land.pushed).entrypoint)
    runner = run_as_job(jobs, str(folder / "store"), poll_s=0.1)
    if not SOAK:
        with pytest.raises(NotebookError, match="this image only serves"):
            train(project, now=MADE, runner=runner)
        return
    there = train(project, now=MADE, runner=runner)
    here = train(project, now=MADE, again=True)
    assert there.parity is not None
    assert (there.parity.flips, there.metrics) == (0, pytest.approx(here.metrics))
    assert there.parity.max_abs_diff < 1e-12  # another machine's arithmetic
    assert "cell 3/3" in jobs.said


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop it as a platform does, by SIGTERM to the container's first process: buildah forks."""
    for one in insides():
        one.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        for one in [*insides(), *psutil.Process(process.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        process.kill()
        process.wait(10)
        raise
