"""Manifest: what a bundle says of itself. Its sha256 is the bundle's digest, and is what is signed.

A bundle is a folder: manifest.json, signature.json, and the files that the manifest lists with their sha256.

| file | what | who reads it |
|---|---|---|
| model.pkl | {"model", "features"}, by cloudpickle | bundle.worker, in the model's environment, once trusted |
| mlflow/ | instead of model.pkl: an imported MLflow model | the same |
| golden.msgpack | golden rows (edge rows too) and the notebook's own answers | parity, and each scorer at its start |
| inline/ | a compiled form, if it proved equal: code-free | bundle.inline |
| profile.json | reference profile of inputs and scores: mergeable counts | monitoring |
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import BundleError
from passerelle.project.settings import TaskKind
from passerelle.schema import Schema

FORMAT = 1
MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
MODEL = "model.pkl"
MLFLOW = "mlflow"
GOLDEN = "golden.msgpack"
PROFILE = "profile.json"
INLINE = "inline"

Label = str | int | bool


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bundle comes from."""

    #: The run that made it; None for an imported model.
    run: str | None = None
    #: The notebook's path and the sha256 of its file.
    notebook: str | None = None
    notebook_sha256: str | None = None
    #: The commit of the project's code, with "+changed" where the checkout had changes; None outside git.
    code_version: str | None = None
    #: Table → its version in the snapshot.
    snapshot: dict[str, int] = {}
    #: Where an imported model came from.
    imported_from: str | None = None
    created_at: datetime


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The environment that the model was fitted in, and is scored in."""

    #: Its interpreter, as a path of the machine that trained.
    python: str
    #: "3.11.7"
    python_version: str
    platform: str
    #: Distribution → version, of all that is installed there.
    packages: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says of itself."""

    project: str
    task: TaskKind
    target: str
    #: What the model can answer, in the order of its outputs; for binary (negative, positive); empty for a number.
    classes: tuple[Label, ...] = ()
    #: The fields of an event.
    schema: Schema
    #: Names captured by the feature function that were computed from training rows, and declared as such.
    constants: tuple[str, ...] = ()
    provenance: Provenance
    environment: Environment
    #: Metric → value on the holdout.
    metrics: dict[str, float] = {}
    #: Path in the bundle → sha256, of every file but the manifest and the signature.
    files: dict[str, str]
    format: int = FORMAT

    @property
    def outputs(self) -> int:
        """How many numbers the model answers with: 1, or one per class for multiclass."""
        return len(self.classes) if self.task == "multiclass" else 1


def read_manifest(bundle: Path) -> tuple[Manifest, str]:
    """A bundle's manifest and its digest. Raises BundleError if it is not one, or of a newer format."""
    path = bundle / MANIFEST
    try:
        data = path.read_bytes()
        head = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if (number := msgspec.json.decode(head.get("format", msgspec.Raw(b"0")), type=int)) > FORMAT:
            raise BundleError(f"{bundle} is of format {number} and this Passerelle reads {FORMAT}: upgrade Passerelle.")
        return msgspec.json.decode(data, type=prepared(Manifest)), hashlib.sha256(data).hexdigest()
    except FileNotFoundError as error:
        raise BundleError(f"{bundle} is not a bundle: it has no {MANIFEST}.") from error
    except msgspec.DecodeError as error:
        raise BundleError(f"{path} is damaged ({error}): fetch the bundle again.") from error
