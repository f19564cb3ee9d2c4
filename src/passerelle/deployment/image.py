"""Image: the container that serves and trains, as a build context made from a version's environment.

No row, no model, no key that signs is in it: bundles travel in packages (deployment.package), and of keys it holds the
public halves that it trusts. It is built without a network: every wheel lies in the context, named by its sha256.

| file | what |
|---|---|
| Dockerfile | two stages: environments are made in the first, and copied into the second |
| requirements.txt | what runs Passerelle |
| requirements-model.txt | what the model was fitted with, where that is not the same environment |
| wheels/ | of both |
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from passerelle.bundle.keys import trusted
from passerelle.bundle.manifest import Environment
from passerelle.deployment.image_facts import ImageError, inspect, parse
from passerelle.deployment.wheelhouse import NAME, gather, pins, requirements
from passerelle.project.settings import FILE, Project
from passerelle.project.targets import Cloud, SageMaker

Architecture = Literal["amd64", "arm64"]

#: What the image needs of Passerelle: to serve from a store, and to train.
SERVING: tuple[str, ...] = ("serve", "stores")
TRAINING: tuple[str, ...] = ("control", "stores")
#: Nobody in particular; any other number does as well.
USER = "65532:65532"
ROOT = "0:0"
#: Tells what the image's model process runs under.
MODEL_PYTHON = "PASSERELLE_PYTHON"
TRUSTED_KEYS = "PASSERELLE_TRUSTED_KEYS"
#: In this order, the first that is installed builds.
BUILDERS = ("buildah", "podman", "docker")

_OWN, _MODEL = "/opt/passerelle", "/opt/model"
_BUILD_S = 3600


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What a Dockerfile says."""

    project: str
    #: By digest.
    base: str
    #: "3.11"
    python_version: str
    architecture: Architecture
    #: Has the model an environment of its own?
    model_apart: bool
    user: str
    trusted_keys: tuple[str, ...]
    #: Passerelle's.
    version: str


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A build context that was written."""

    folder: Path
    recipe: Recipe
    #: How many wheels it holds, and their bytes.
    wheels: int
    size_bytes: int


def write_context(
    project: Project,
    environment: Environment,
    into: Path,
    *,
    target: str | None = None,
    base: str | None = None,
    architecture: Architecture | None = None,
    extras: Sequence[str] = TRAINING,
) -> Context:
    """Write a build context for what was fitted in ``environment``; what else lies in ``into/wheels`` is used.

    ``target`` is the target that the image is for, by its name; None: all of the project's. ``base`` is an image with
    Python of the environment's version, by digest, or by a tag whose digest its registry tells; by default Python's
    own. ``architecture``: by default the target's. Raises ImageError, and writes no Dockerfile, if a package or the
    base's digest cannot be had, or if no image is fit for all targets.
    """
    user, processor = demands(project, target, architecture)
    keys = trusted(project.state)
    if not keys:
        raise ImageError(f"{project.state / 'trust'} holds no key that the image could trust: passerelle train first.")
    python_version = ".".join(environment.python_version.split(".")[:2])
    pinned = by_digest(base or f"docker.io/library/python:{python_version}-slim-bookworm")
    own = pins(extras, python_version)
    fitted = {name: version for name, version in environment.packages.items() if name != "pip"}
    apart = not covers(fitted, own)
    installed = {"requirements.txt": own if apart else fitted} | ({"requirements-model.txt": fitted} if apart else {})
    wheels = into / "wheels"
    for packages in installed.values():
        gather(packages, wheels, python_version=environment.python_version, architecture=processor)
    recipe = Recipe(
        project=project.name,
        base=pinned,
        python_version=python_version,
        architecture=processor,
        model_apart=apart,
        user=user,
        trusted_keys=keys,
        version=own[NAME],
    )
    written = {name: requirements(packages, wheels) for name, packages in installed.items()}
    (into / "requirements-model.txt").unlink(missing_ok=True)
    for name, text in (written | {"Dockerfile": dockerfile(recipe), ".dockerignore": _IGNORED}).items():
        draft = into / f".{name}-{secrets.token_hex(4)}"
        draft.write_text(text, encoding="utf-8")
        draft.replace(into / name)
    sizes = [path.stat().st_size for path in wheels.glob("*.whl")]
    return Context(folder=into, recipe=recipe, wheels=len(sizes), size_bytes=sum(sizes))


def demands(project: Project, target: str | None, architecture: Architecture | None) -> tuple[str, Architecture]:
    """Who an image's processes run as, and its processor: as a target wants them, or all of them if none is named.

    SageMaker expects root, and root only (AWS, "Custom inference code with hosting services"); nobody else does. Raises
    ImageError for a target that is not there, or that wants another processor than ``architecture``, and if no image is
    fit for all.
    """
    clouds = {name: one for name, one in project.targets.items() if isinstance(one, Cloud)}
    if target is not None and target not in clouds:
        known = ", ".join(clouds) or f"none: add [targets.{target}] to {FILE}"
        raise ImageError(f"there is no target {target!r} that runs an image; those that do: {known}.")
    asked = {target: clouds[target]} if target is not None else clouds
    users = {name: ROOT if isinstance(one, SageMaker) else USER for name, one in asked.items()}
    processors = {name: one.architecture for name, one in asked.items()}
    for what, wanted in (("user", users), ("architecture", processors)):
        if len(set(wanted.values())) > 1:
            said = ", ".join(f"{name} wants {one}" for name, one in wanted.items())
            raise ImageError(
                f"no image is fit for all targets ({what}: {said}): make one for each, with --target NAME."
            )
    processor = next(iter(processors.values()), architecture or "amd64")
    if architecture not in (None, processor):
        raise ImageError(
            f"{', '.join(asked)} says architecture = {processor!r}, and the image is asked for {architecture}: correct "
            f"one of them."
        )
    return next(iter(users.values()), USER), processor


def by_digest(reference: str) -> str:
    """An image's name with its digest, which its registry tells if the name has none.

    >>> by_digest("localhost/python@sha256:" + "a" * 64)[:28]
    'localhost/python@sha256:aaaa'
    """
    asked = parse(reference)
    if asked.digest is not None:
        return reference
    try:
        return f"{asked.host}/{asked.name}@{inspect(reference).digest}"
    except ImageError as error:
        raise ImageError(f"{error} Or name the base by its digest: --base IMAGE@sha256:DIGEST.") from error


def covers(fitted: dict[str, str], own: dict[str, str]) -> bool:
    """Was the model fitted where all of Passerelle is installed, in these versions, so that one environment does?

    >>> covers({"Numpy": "2.4", "pandas": "3.1"}, {"numpy": "2.4"}), covers({"numpy": "1.26"}, {"numpy": "2.4"})
    (True, False)
    """
    known = {_canonical(name): version for name, version in fitted.items()}
    return all(known.get(name) == version for name, version in own.items())


def dockerfile(recipe: Recipe) -> str:
    """The Dockerfile of a recipe."""
    python = f"{_MODEL if recipe.model_apart else _OWN}/bin/python"
    made = [_install(_OWN, "requirements.txt")]
    copied = [f"COPY --from=build {_OWN} {_OWN}"]
    if recipe.model_apart:
        made.append(_install(_MODEL, "requirements-model.txt"))
        copied.append(f"COPY --from=build {_MODEL} {_MODEL}")
    labels = {
        "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
        "io.passerelle.architecture": recipe.architecture,
        "io.passerelle.project": recipe.project,
        "io.passerelle.python": recipe.python_version,
        "io.passerelle.version": recipe.version,
        "org.opencontainers.image.base.digest": recipe.base.partition("@")[2],
        "org.opencontainers.image.title": f"{recipe.project}: serves and trains",
    }
    variables = {
        "PYTHONUNBUFFERED": "1",
        "HOME": "/tmp",  # noqa: S108  (a container's own; whoever it runs as can write there)
        MODEL_PYTHON: python,
        TRUSTED_KEYS: " ".join(recipe.trusted_keys),
    }
    why = (
        "# Root: SageMaker, which this image is for, expects its containers to run so."
        if recipe.user == ROOT
        else "# Not root, and any other number does as well: it writes below /tmp only."
    )
    return "\n".join(
        [
            "# Written by passerelle image: write it anew rather than change it. It serves and it trains.",
            f"FROM {recipe.base} AS build",
            "COPY wheels/ /wheels/",
            "COPY requirements*.txt /wheels/",
            *made,
            "",
            f"FROM {recipe.base}",
            *copied,
            "LABEL " + " \\\n      ".join(f"{name}={json.dumps(value)}" for name, value in labels.items()),
            "ENV " + " \\\n    ".join(f"{name}={json.dumps(value)}" for name, value in variables.items()),
            "WORKDIR /tmp",
            "EXPOSE 8080",
            why,
            *(("# hadolint ignore=DL3002",) if recipe.user == ROOT else ()),
            f"USER {recipe.user}",
            f'ENTRYPOINT ["{_OWN}/bin/python", "-m", "passerelle.serving.container"]',
            'CMD ["serve"]',
            "",
        ]
    )


def build(context: Context, tag: str | None = None) -> str:
    """Build a context with what is installed: buildah, podman or docker. Returns the image's name here.

    Raises ImageError, in the builder's words, if there is none or it fails.
    """
    name = tag or f"localhost/{context.recipe.project}:{context.recipe.version}"
    platform = f"linux/{context.recipe.architecture}"
    _run("build", "--platform", platform, "--tag", name, str(context.folder))
    return name


def tag_in_registry(project: Project, target: str | None) -> str:
    """What an image is pushed as: the name that the target's ``image`` has, with Passerelle's version as its tag.

    Raises ImageError for a target without an image, and if none is named and the targets' images are not one.
    """
    clouds = {name: one.image for name, one in project.targets.items() if isinstance(one, Cloud)}
    names = {image.partition("@")[0] for name, image in clouds.items() if target in (None, name)}
    if len(names) != 1:
        raise ImageError(f"pushed where? {FILE} names {len(names)} images for its targets: say --target NAME.")
    asked = parse(names.pop())
    return f"{asked.host}/{asked.name}:{asked.tag or importlib.metadata.version(NAME)}"


def push(name: str) -> str:
    """Push what was built to its registry, with what built it, which you are signed in by; its name with its digest.

    Raises ImageError, in the builder's words, if it fails.
    """
    found = _builder()
    own = ["--tls-verify=false"] if parse(name).address.startswith("http://") and found.name != "docker" else []
    if found.name == "docker":
        said = _run("push", name)
        digest = next(iter(re.findall(r"digest: (sha256:[0-9a-f]{64})", said)), None)
    else:
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "digest"
            _run("push", *own, "--digestfile", str(told), name)
            digest = told.read_text(encoding="utf-8").strip()
    if not digest:
        raise ImageError(f"{found} pushed {name} and did not say its digest: look it up in the registry.")
    asked = parse(name)
    return f"{asked.host}/{asked.name}@{digest}"


def _builder() -> Path:
    found = next((path for path in map(shutil.which, BUILDERS) if path), None)
    if found is None:
        raise ImageError(f"none of {', '.join(BUILDERS)} is installed: build the context where one is.")
    return Path(found)


def _run(*arguments: str) -> str:
    """Have the builder do it; what it said."""
    command = [str(_builder()), *arguments]
    done = subprocess.run(  # noqa: S603  (a builder that the user installed, no shell)
        command, capture_output=True, text=True, timeout=_BUILD_S, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise ImageError(f"{command[0]} could not {arguments[0]} {arguments[-1]}: {said}")
    return done.stdout


def _install(place: str, listed: str) -> str:
    install = f"{place}/bin/pip install --no-cache-dir --no-index --find-links=/wheels --no-deps --require-hashes"
    return f"RUN python3 -m venv {place} \\\n && {install} -r /wheels/{listed}"


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


_IGNORED = "*\n!wheels\n!requirements*.txt\n"
