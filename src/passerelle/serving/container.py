"""Container: the entry of the image that every cloud runs: ``serve`` a package, or ``train`` as a job.

| variable | what |
|---|---|
| PASSERELLE_PACKAGE | where the package is: a folder or an address; else AIP_STORAGE_URI, AZUREML_MODEL_DIR, PLACES |
| PASSERELLE_TRUSTED_KEYS | the public keys (hex, with spaces between) whose packages are served; baked into the image |
| PASSERELLE_PROJECT, -_ENVIRONMENT, -_REVISION | if set, what the package must be: no other is served |
| PASSERELLE_TOKENS_FILE | the tokens of a deployment that asks for them (``auth: tokens``): a mounted tokens.json |
| PASSERELLE_PYTHON | the interpreter of the models, if it is not the image's own |
| PASSERELLE_HOST | where it listens; 0.0.0.0 |

The port is SAGEMAKER_BIND_TO_PORT, AIP_HTTP_PORT or PORT, else 8080. It is bound first: probes are told 503 while the
package is fetched, verified and loaded. Nothing of a package is believed before its signature was verified; then, and
only then, what it says of ``auth`` holds.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import msgspec

from passerelle.deployment.package import DEPLOYMENT, open_package
from passerelle.deployment.spec import Deployment, environment_folder, told
from passerelle.errors import PasserelleError, ServingError
from passerelle.names import load
from passerelle.project.settings import FILE, load_project
from passerelle.serving.observation import observed
from passerelle.serving.supervisor import WORKER, bound_socket
from passerelle.serving.supervisor import serve as supervise
from passerelle.serving.tokens import tokens_path
from passerelle.serving.waiting import Waiting

#: Where platforms put a model: SageMaker, KServe.
PLACES = (Path("/opt/ml/model"), Path("/mnt/models"))
PORTS = ("SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT", "PORT")
TRUSTED = "PASSERELLE_TRUSTED_KEYS"
_DEEPEST = 4
#: What an image without training lacks, and where SageMaker reads why a job failed.
_TRAINING, _FAILURE = "nbclient", Path("/opt/ml/output/failure")
_JOB = (sys.executable, "-m", "passerelle.loop.jobrun")


def serve(variables: Mapping[str, str], *, command: Sequence[str] = WORKER, places: Sequence[Path] = PLACES) -> None:
    """Serve the package that the platform brought, until SIGTERM. Raises PasserelleError: it cannot, and why."""
    # All interfaces, in a container, whose platform says who reaches it.
    host = variables.get("PASSERELLE_HOST") or "0.0.0.0"  # noqa: S104  (as the comment above says)
    with (
        tempfile.TemporaryDirectory(prefix="passerelle-") as scratch,
        bound_socket(host, port_of(variables), advice="name another by the variable PORT") as listener,
        Waiting(listener) as waiting,
    ):
        listener.setblocking(False)  # noqa: FBT003  (a worker may be quicker)
        package = find_package(variables, places, Path(scratch) / "package")
        python = variables.get("PASSERELLE_PYTHON") or sys.executable
        if shutil.which(python) is None:
            raise ServingError(f"PASSERELLE_PYTHON is {python!r}, which is no program: correct it, or leave it out.")
        deployment = open_package(package, trusted_keys(variables))
        _check(deployment, variables)
        root = Path(scratch) / "project"
        lay_out(package, deployment, root, tokens=variables.get("PASSERELLE_TOKENS_FILE"))
        folder = environment_folder(root / ".passerelle", deployment.environment)
        waiting.is_ready = lambda: any(one.revision is not None for one in observed(folder).values())
        options = ["--contracts", "--auth", deployment.auth]
        supervise(
            load_project(root / FILE),
            deployment.environment,
            host=host,
            command=[*command, *options, "--python", python],
            listener=listener,
            auth=deployment.auth,
        )


def port_of(variables: Mapping[str, str]) -> int:
    """The port to listen on. Raises ServingError if what the platform says is none.

    >>> port_of({"AIP_HTTP_PORT": "9000", "PORT": "80"}), port_of({})
    (9000, 8080)
    """
    for name in PORTS:
        if text := variables.get(name):
            if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004  (the largest port)
                raise ServingError(f"{name} is {text!r}, which is no port: correct the target's settings.")
            return int(text)
    return 8080


def trusted_keys(variables: Mapping[str, str]) -> tuple[str, ...]:
    """The keys that the image trusts. Raises ServingError if it trusts none."""
    keys = tuple(variables.get(TRUSTED, "").split())
    if not keys:
        raise ServingError(f"this image trusts no key: build it with {TRUSTED}, as passerelle image does.")
    return keys


def find_package(variables: Mapping[str, str], places: Sequence[Path], fetched: Path) -> Path:
    """The folder of the package, fetched into ``fetched`` if it lies at an address. Raises ServingError, StoreError."""
    for name in ("PASSERELLE_PACKAGE", "AIP_STORAGE_URI"):
        if at := variables.get(name):
            if "://" in at:
                load("passerelle.adapters.objectstore:get_folder")(at, fetched)
                return _search(fetched, f"{name}, {at},")
            return _search(Path(at), name)
    if at := variables.get("AZUREML_MODEL_DIR"):
        return _search(Path(at), "AZUREML_MODEL_DIR")
    there = [place for place in places if place.is_dir() and any(place.iterdir())]
    if not there:
        looked = ", ".join(map(str, places))
        raise ServingError(
            f"there is no package: PASSERELLE_PACKAGE, AIP_STORAGE_URI and AZUREML_MODEL_DIR are not set, and there is "
            f"nothing in {looked}. passerelle deploy brings one."
        )
    return _search(there[0], str(there[0]))


def _check(deployment: Deployment, variables: Mapping[str, str]) -> None:
    """Raise ServingError if the platform was told of another project, environment or revision than the package is."""
    for name, found in told(deployment).items():
        if variables.get(name, found) != found:
            raise ServingError(
                f"{name} is {variables[name]!r}, and the package is of {found!r}: somebody put another one there. "
                "Deploy the revision again, and find out who."
            )


def lay_out(package: Path, deployment: Deployment, root: Path, *, tokens: str | None) -> None:
    """Make a project's folder of a verified package: its settings, and the revision with its bundles where they lie."""
    variants = tuple(
        msgspec.structs.replace(one, bundle=str((package / one.bundle).resolve())) for one in deployment.variants
    )
    folder = environment_folder(root / ".passerelle", deployment.environment)
    folder.mkdir(parents=True)
    (root / FILE).write_bytes((package / FILE).read_bytes())
    placed = msgspec.structs.replace(deployment, variants=variants)
    (folder / f"{deployment.revision:06d}.json").write_bytes(msgspec.json.encode(placed))
    if tokens is not None:
        if not Path(tokens).is_file():
            raise ServingError(
                f"PASSERELLE_TOKENS_FILE is {tokens!r}, and there is no such file: mount a project's tokens.json there."
            )
        tokens_path(root / ".passerelle").symlink_to(tokens)  # a link: what is mounted may be renewed
    elif deployment.auth == "tokens":
        raise ServingError(
            "this deployment lets in who has a token, and there are none: mount a project's tokens.json and name it by "
            "PASSERELLE_TOKENS_FILE, or let the platform decide (auth: platform)."
        )
    if deployment.ledger_at is None and deployment.ledger != "off":
        _say("the ledger is kept inside this container and goes with it: set a store for the target.")


def _search(folder: Path, where: str) -> Path:
    """The folder at or below this one that is a package."""
    found = [
        path.parent for depth in range(_DEEPEST + 1) for path in folder.glob("/".join(["*"] * depth + [DEPLOYMENT]))
    ]
    if len(found) != 1:
        what = "no package is there" if not found else f"{len(found)} packages are there, and one is served"
        raise ServingError(f"{where} leads to {folder}, and {what}: deploy the revision again.")
    return found[0]


def _refuse_training(failure: Path) -> NoReturn:
    reason = "NotebookError: this image only serves: make it without --no-training, push it, and name its digest"
    if failure.parent.parent.is_dir():
        failure.parent.mkdir(exist_ok=True)
        failure.write_text(reason)
    _say(reason)
    sys.exit(2)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201  (a container's log)


def _end(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def main(
    arguments: Sequence[str] | None = None, *, command: Sequence[str] = WORKER, places: Sequence[Path] = PLACES
) -> None:
    """``python -m passerelle.serving.container [serve|train]``: the image's entry; no argument is ``serve``."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["serve"]
    if given[0] == "train":
        if find_spec(_TRAINING) is None:
            _refuse_training(_FAILURE)
        # Another program: what serves never loads what trains.
        os.execv(_JOB[0], [*_JOB, *given[1:]])  # noqa: S606  (our own)
    if given != ["serve"]:
        _say(f"the container can serve or train, not {' '.join(given)!r}.")
        sys.exit(2)
    signal.signal(signal.SIGTERM, _end)  # the first process of a container is not ended by a signal that it ignores
    try:
        serve(os.environ, command=command, places=places)
    except PasserelleError as error:
        _say(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
