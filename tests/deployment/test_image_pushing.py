"""Where an image goes by default, what a registry is told of who asks, and how a builder is asked to push."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from shelf import Shelf
from test_image import put_wheels

from passerelle.cli import main
from passerelle.deployment.image import BUILDERS, TRAINING, push, tag_in_registry
from passerelle.deployment.image_facts import HOST_VARIABLE, PASSWORD_VARIABLE, USER_VARIABLE, ImageError, inspect
from passerelle.deployment.wheelhouse import pins
from passerelle.loop import train
from passerelle.project.settings import Project, load_project
from passerelle.project.targets import Kubernetes, Local

BASIC = "Basic " + base64.b64encode(b"ada:secret").decode()
CONFIG = json.dumps({"architecture": "amd64"}).encode()
MANIFEST = json.dumps({"config": {"digest": f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"}}).encode()
DIGEST = "sha256:" + "a" * 64


@dataclass
class Registry:
    """A registry of one image, for who says who they are: by name and password, or by a token of its own realm's."""

    kind: str
    host: str = ""
    #: What it was told in Authorization, in order.
    told: list[str | None] = field(default_factory=list)


@pytest.fixture(params=["basic", "bearer"])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    made = Registry(request.param)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            who = self.headers.get("Authorization")
            made.told.append(who)
            realm = self.path.startswith("/token")
            if who == BASIC and realm:
                self.answer(200, b'{"token": "t"}')
            elif who == (BASIC if made.kind == "basic" else "Bearer t"):
                self.answer(200, CONFIG if "/blobs/" in self.path else MANIFEST)
            else:
                self.answer(401, b"{}")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            challenge = 'Basic realm="r"' if made.kind == "basic" else f'Bearer realm="http://{made.host}/token"'
            if status == 401:
                self.send_header("WWW-Authenticate", challenge)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    made.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_password_is_told_to_the_registry_that_it_is_for(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOST_VARIABLE, registry.host)
    monkeypatch.setenv(USER_VARIABLE, "ada")
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    assert inspect(f"{registry.host}/flights:1").architectures == ("amd64",)
    assert BASIC in registry.told


@pytest.mark.parametrize("meant", [None, "registry.example", "127.0.0.1"])
def test_no_other_registry_is_told_the_password(
    meant: str | None, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor its realm, which a stranger's registry chooses."""
    monkeypatch.delenv(HOST_VARIABLE, raising=False)
    if meant is not None:
        monkeypatch.setenv(HOST_VARIABLE, meant)
    monkeypatch.setenv(USER_VARIABLE, "ada")
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    with pytest.raises(ImageError) as refused:
        inspect(f"{registry.host}/flights:1")
    assert registry.told
    assert set(registry.told) == {None}
    if registry.kind == "basic":
        assert f"set {HOST_VARIABLE}={registry.host}, {USER_VARIABLE} and {PASSWORD_VARIABLE}" in str(refused.value)


def cluster(image: str) -> Kubernetes:
    return Kubernetes(image=f"{image}@{DIGEST}", store="s3://b/p", instance="")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    path = tmp_path / "passerelle.toml"
    path.write_text('[project]\nname = "flights"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n')
    return load_project(path)


def test_an_image_is_pushed_as_its_target_names_it(project: Project) -> None:
    targets = {"k": cluster("registry.example/flights"), "here": Local(), "other": cluster("localhost:5000/x:7")}
    asked = msgspec.structs.replace(project, targets=targets)
    assert tag_in_registry(asked, "k") == "registry.example/flights:0.1.0"
    assert tag_in_registry(asked, "other") == "localhost:5000/x:7"
    for target, count in ((None, 2), ("here", 0), ("absent", 0)):
        with pytest.raises(ImageError, match=f"names {count} images for its targets: say --target NAME"):
            tag_in_registry(asked, target)


def noting(builder: Path) -> None:
    """A builder that only notes what it is asked, a line each, in ``asked``; test_image_built has a real one."""
    builder.write_text(
        f'#!/bin/sh\necho "$@" >> {builder.parent}/asked\n'
        f'for one in "$@"; do [ "$before" = --digestfile ] && printf {DIGEST} > "$one"; before="$one"; done\n'
        f'echo "0.1.0: digest: {DIGEST} size: 1"\n'
    )
    builder.chmod(0o755)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("host", ["registry.example", "127.0.0.1:5000"])
def test_each_builder_pushes_and_says_the_digest(
    builder: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noting(tmp_path / builder)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr("passerelle.deployment.image.BUILDERS", (builder,))
    assert push(f"{host}/flights:0.1.0") == f"{host}/flights@{DIGEST}"
    words = (tmp_path / "asked").read_text().split()
    assert (words[0], words[-1]) == ("push", f"{host}/flights:0.1.0")
    # Only a registry of this machine's is spoken to without encryption; docker decides that by itself.
    assert ("--tls-verify=false" in words) == (host.startswith("127") and builder != "docker")


def test_a_builder_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "buildah"
    script.write_text("#!/bin/sh\necho unauthorized >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(ImageError, match=r"could not push registry\.example/flights:1: unauthorized"):
        push("registry.example/flights:1")


def test_the_verb_builds_and_pushes_to_the_targets_registry(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into the project's own folder image/: README and guides name none."""
    path = project.root / "passerelle.toml"
    target = f'kind = "kubernetes"\nimage = "registry.example/flights@{DIGEST}"\nstore = "s3://b/p"\ninstance = ""\n'
    path.write_text(f"{path.read_text()}[targets.cluster]\n{target}")
    shelf = Shelf(project)
    monkeypatch.setattr(train, "registry_of", lambda _: shelf)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    put_wheels(pins(TRAINING, "3.11"), project.root / "image/wheels")
    noting(tmp_path / "buildah")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    base = f"registry.example/python@{DIGEST}"
    done = CliRunner().invoke(main, ["-C", str(project.root), "image", "--base", base, "--target", "cluster", "--push"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f'Pushed. In passerelle.toml: image = "registry.example/flights@{DIGEST}"'
    name, folder = "registry.example/flights:0.1.0", project.root / "image"
    built, pushed = (tmp_path / "asked").read_text().splitlines()
    assert built == f"build --platform linux/amd64 --tag {name} {folder}"
    assert (pushed.split()[0], pushed.split()[-1]) == ("push", name)
    assert f"FROM {base} AS build" in (folder / "Dockerfile").read_text()
