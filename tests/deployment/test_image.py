from __future__ import annotations

import hashlib
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from passerelle.bundle.keys import public_hex, throwaway_key, trust
from passerelle.bundle.manifest import Environment
from passerelle.deployment.image import ROOT, USER, Recipe, by_digest, covers, demands, dockerfile, write_context
from passerelle.deployment.image_facts import ImageError, ImageFacts, check_architecture, parse
from passerelle.deployment.wheelhouse import gather, own_wheel, pins, requirements
from passerelle.project.settings import Project, load_project
from passerelle.project.targets import Kubernetes, Local, SageMaker

BASE = "localhost/python@sha256:" + "a" * 64
KEY = public_hex(throwaway_key())
RECIPE = Recipe(
    project="flights",
    base=BASE,
    python_version="3.11",
    architecture="amd64",
    model_apart=False,
    user=USER,
    trusted_keys=(KEY, "b" * 64),
    version="0.1.0",
)


def environment(**packages: str) -> Environment:
    return Environment(python="/nowhere/python", python_version="3.11.9", platform="linux", packages=packages)


def put_wheels(packages: dict[str, str], wheels: Path, *, needs: str = ">=3.11") -> None:
    """The least that pip takes for wheels."""
    wheels.mkdir(parents=True, exist_ok=True)
    for name, version in packages.items():
        stem = f"{name.replace('-', '_')}-{version}"
        with zipfile.ZipFile(wheels / f"{stem}-py3-none-any.whl", "w") as wheel:
            said = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {needs}\n"
            wheel.writestr(f"{stem}.dist-info/METADATA", said)
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "flights"
    root.mkdir()
    (root / "passerelle.toml").write_text(
        '[project]\nname = "flights"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
    )
    made = load_project(root / "passerelle.toml")
    trust(made.state, KEY)
    return made


def test_dockerfile_says_all_that_the_clouds_want() -> None:
    text = dockerfile(RECIPE)
    assert text.count(f"FROM {BASE}") == 2
    assert 'com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"' in text
    assert 'io.passerelle.architecture="amd64"' in text
    assert f'PASSERELLE_TRUSTED_KEYS="{KEY} {"b" * 64}"' in text
    assert 'PASSERELLE_PYTHON="/opt/passerelle/bin/python"' in text
    assert 'ENTRYPOINT ["/opt/passerelle/bin/python", "-m", "passerelle.serving.container"]' in text
    assert f"\nUSER {USER}\n" in text
    assert "/opt/model" not in text
    for line in re.findall(r"pip install.*", text):
        assert "--no-index" in line
        assert "--require-hashes" in line


def test_model_apart_has_its_own_environment() -> None:
    text = dockerfile(msgspec.structs.replace(RECIPE, model_apart=True, user=ROOT))
    assert 'PASSERELLE_PYTHON="/opt/model/bin/python"' in text
    assert "-r /wheels/requirements-model.txt" in text
    assert "COPY --from=build /opt/model /opt/model" in text
    assert "USER 0:0" in text


def test_dockerfile_is_clean(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    own = Path(__file__).parents[2] / ".tools/hadolint/bin/hadolint"
    found = next((path for path in (hadolint, own) if path.exists()), None)
    if found is None:
        pytest.skip("hadolint is not installed: sudo make test-system")
    for apart, user in ((False, USER), (True, USER), (True, ROOT)):
        path = tmp_path / "Dockerfile"
        path.write_text(dockerfile(msgspec.structs.replace(RECIPE, model_apart=apart, user=user)))
        assert subprocess.run([found, path], capture_output=True, text=True, check=False).stdout == ""
    path.write_text("FROM python\nRUN sudo ls\n")  # it can find something
    assert "DL3006" in subprocess.run([found, path], capture_output=True, text=True, check=False).stdout


def test_pins_are_what_runs_here() -> None:
    found = pins(("serve",), "3.11")
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert {"passerelle", "uvicorn", "uvloop", "cryptography", "cffi", "msgspec"} <= found.keys()
    assert not {"pandas", "mlflow-skinny", "pytest"} & found.keys()
    assert "pandas" in pins(("control",), "3.11")
    with pytest.raises(ImageError, match="no extra nonsense"):
        pins(("nonsense",), "3.11")


def test_own_wheel_is_the_same_to_the_byte_and_whole(tmp_path: Path) -> None:
    first = own_wheel(tmp_path)
    before = first.read_bytes()
    assert own_wheel(tmp_path).read_bytes() == before
    with zipfile.ZipFile(first) as wheel:
        names = wheel.namelist()
        version = importlib.metadata.version("passerelle")
        record = wheel.read(f"passerelle-{version}.dist-info/RECORD").decode()
    assert "passerelle/py.typed" in names
    assert "passerelle/serving/page.html" in names
    assert not [name for name in names if "__pycache__" in name]
    assert {line.split(",")[0] for line in record.splitlines()} == set(names)


def test_requirements_name_each_wheel_by_its_sum(tmp_path: Path) -> None:
    wheel = tmp_path / "Some_Thing-1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    digest = hashlib.sha256(b"a wheel").hexdigest()
    assert requirements({"some-thing": "1.0.0"}, tmp_path) == f"some-thing==1.0.0 \\\n    --hash=sha256:{digest}\n"
    with pytest.raises(ImageError, match=r"no wheel of other 2"):
        requirements({"other": "2"}, tmp_path)


def test_package_without_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ImageError, match="our-own-features"):
        gather({"our-own-features": "7"}, tmp_path, python_version="3.11", architecture="amd64")


def test_context_has_no_row_and_no_secret(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PASSERELLE_KEY", "-----BEGIN PRIVATE KEY-----")
    own = pins((), "3.11")
    put_wheels(own, tmp_path / "image/wheels", needs=">=3.11.5")  # it was made with 3.11.9
    made = write_context(project, environment(**own), tmp_path / "image", base=BASE, extras=())
    assert sorted(path.name for path in (tmp_path / "image").iterdir()) == [
        ".dockerignore",
        "Dockerfile",
        "requirements.txt",
        "wheels",
    ]
    assert (made.recipe.user, made.recipe.architecture) == (USER, "amd64")
    assert not made.recipe.model_apart
    assert made.recipe.trusted_keys == (KEY,)
    assert "PRIVATE" not in (tmp_path / "image/Dockerfile").read_text()
    clouds = msgspec.structs.replace(project, targets={"aws": AWS, "k": CLUSTER})
    old = environment(passerelle="0.0.1")
    apart = write_context(clouds, old, tmp_path / "image", target="aws", base=BASE, extras=())
    assert (apart.recipe.model_apart, apart.recipe.user) == (True, ROOT)
    assert "\nUSER 0:0\n" in (tmp_path / "image/Dockerfile").read_text()
    assert "passerelle==0.1.0" in (tmp_path / "image/requirements-model.txt").read_text()


COMMON: dict[str, Any] = {"image": "h/i@sha256:" + "0" * 64, "store": "s3://b/p", "instance": "ml.m5.large"}
AWS = SageMaker(region="eu-west-3", role="arn:aws:iam::123456789012:role/r", **COMMON)
CLUSTER = Kubernetes(**COMMON)


@pytest.mark.parametrize(
    ("targets", "name", "due"),
    [
        ({}, None, (USER, "amd64")),
        ({"here": Local()}, None, (USER, "amd64")),
        ({"aws": AWS}, None, (ROOT, "amd64")),
        ({"aws": AWS, "here": Local()}, None, (ROOT, "amd64")),
        ({"aws": AWS, "k": CLUSTER}, "aws", (ROOT, "amd64")),
        ({"aws": AWS, "k": CLUSTER}, "k", (USER, "amd64")),
        ({"aws": AWS, "k": CLUSTER}, None, "user: aws wants 0:0, k wants 65532:65532.*--target NAME"),
        ({"k": CLUSTER}, "aws", "no target 'aws' that runs an image; those that do: k"),
        ({"here": Local()}, "here", "those that do: none"),
        ({"k": msgspec.structs.replace(CLUSTER, architecture="arm64")}, None, (USER, "arm64")),
    ],
)
def test_root_only_where_sagemaker_demands_it(
    targets: dict[str, Any], name: str | None, due: Any, project: Project
) -> None:
    asked = msgspec.structs.replace(project, targets=targets)
    if isinstance(due, tuple):
        assert demands(asked, name, None) == due
        return
    with pytest.raises(ImageError, match=due):
        demands(asked, name, None)


def test_another_processor_than_the_targets_is_refused(project: Project) -> None:
    asked = msgspec.structs.replace(project, targets={"aws": AWS})
    assert demands(asked, "aws", "amd64") == (ROOT, "amd64")
    assert demands(project, None, "arm64") == (USER, "arm64")
    with pytest.raises(ImageError, match="aws says architecture = 'amd64', and the image is asked for arm64"):
        demands(asked, "aws", "arm64")


def test_no_trusted_key_no_image(project: Project, tmp_path: Path) -> None:
    for path in (project.state / "trust").iterdir():
        path.unlink()
    with pytest.raises(ImageError, match="no key that the image could trust"):
        write_context(project, environment(), tmp_path / "image", base=BASE)
    assert not (tmp_path / "image").exists()


def test_one_environment_only_if_it_has_all_of_ours() -> None:
    assert covers({"Typing_Extensions": "4", "x": "1"}, {"typing-extensions": "4"})
    assert not covers({"typing-extensions": "3"}, {"typing-extensions": "4"})


@pytest.mark.parametrize(
    ("text", "address", "tag", "digest"),
    [
        ("python:3.11-slim", "https://registry-1.docker.io/v2/library/python", "3.11-slim", None),
        ("docker.io/a/b", "https://registry-1.docker.io/v2/a/b", None, None),
        ("localhost:5000/b:1", "http://localhost:5000/v2/b", "1", None),
        (BASE, "http://localhost/v2/python", None, "sha256:" + "a" * 64),
        ("1.dkr.ecr.eu-west-3.amazonaws.com/x/y:z", "https://1.dkr.ecr.eu-west-3.amazonaws.com/v2/x/y", "z", None),
    ],
)
def test_references(text: str, address: str, tag: str | None, digest: str | None) -> None:
    asked = parse(text)
    assert (asked.address, asked.tag, asked.digest) == (address, tag, digest)


@pytest.mark.parametrize("text", ["", "UPPER/x", "a b", "h.io/x@sha256:12", "https://h.io/x"])
def test_not_a_reference(text: str) -> None:
    with pytest.raises(ImageError, match="not an image's name"):
        parse(text)


def test_unreachable_registry_asks_for_a_digest() -> None:
    with pytest.raises(ImageError, match="--base IMAGE@sha256"):
        by_digest("127.0.0.1:9/python:3.11")


def test_other_architecture_is_refused() -> None:
    facts = ImageFacts(digest="sha256:" + "0" * 64, architectures=("amd64",))
    with pytest.raises(ImageError, match="passerelle image --architecture arm64"):
        check_architecture("flights", facts, "arm64")
