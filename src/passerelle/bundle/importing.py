"""Importing: an existing MLflow model becomes a bundle. Its files are read here; its code runs only in the child.

The schema comes from the model's signature, the golden rows from its input example (and rows at the edges, where it
answers), the answers from MLflow itself in a clean process of the project's environment. Accepted rows of the main
table, if there are any, stand in for a signature or an example that the model lacks.
"""

from __future__ import annotations

import asyncio
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from passerelle.bundle.child import Hello, ask_once, environment, missing_interpreter
from passerelle.bundle.manifest import MLFLOW, PROFILE, Environment, Label, Manifest, Provenance
from passerelle.bundle.process import ProcessScorer
from passerelle.bundle.profile import encode_profile, profile
from passerelle.bundle.seal import Bundle, close, draft_folder, write_golden, write_manifest
from passerelle.bundle.tracking import mlflow, quiet
from passerelle.data.columns import columns_of
from passerelle.data.contract import load_contract
from passerelle.data.table import read_conformed, snapshot
from passerelle.errors import BundleError, ScoringError
from passerelle.notebook.frame import from_frame
from passerelle.notebook.golden import golden_rows
from passerelle.project.settings import Project, Task
from passerelle.schema import Column, Columns, Kind, Schema, as_array, count

#: MLflow's column types → ours.
KINDS: dict[str, Kind] = {
    "boolean": "boolean",
    "integer": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "string": "string",
    "datetime": "timestamp",
}
_REMOTE = ("models:", "runs:")
_DEADLINE_S = 120.0
#: How many accepted rows stand in for an input example.
_SAMPLE_ROWS = 1000

Sample = tuple[Schema, Columns]
"""Rows of the main table, and its fields."""

_DESCRIBE = (
    "import json, platform; from passerelle.notebook.environment import installed_packages; "
    "print(json.dumps([platform.python_version(), installed_packages()]))"
)


def import_model(
    project: Project, source: str, *, sample: Sample | None, trust: bool, key: Ed25519PrivateKey, now: datetime
) -> Bundle:
    """Seal an MLflow model as a bundle of the project.

    ``source`` is ``models:/name/3``, ``models:/name@alias``, ``runs:/id/model`` (of the server that
    MLFLOW_TRACKING_URI names) or a model's folder; ``sample`` are rows of the main table, for a model without an input
    example or a signature (None: of the accepted ones). Raises BundleError without ``trust``, or if the model lacks
    what is needed; ScoringError if it does not answer its own example.
    """
    if not trust:
        raise BundleError(
            f"{source} was not imported: loading an MLflow model executes its code. If you know who made it, say so "
            "with --trust; your key then signs it."
        )
    python = project.notebook.python or sys.executable
    with draft_folder(project.state / "bundles") as draft, asyncio.Runner() as runner:
        described = _fetch(project, source, draft / MLFLOW)
        example = _example(described, draft / MLFLOW)
        manifest = Manifest(
            project=project.name,
            task=project.task.kind,
            target=project.task.target,
            schema=Schema(columns=()),  # known below: the model itself may have to say its columns
            provenance=Provenance(imported_from=source, created_at=now),
            environment=_environment(python, draft),
            files={},
        )
        _, digest = write_manifest(draft, manifest)
        hello: Hello = ask_once(draft, digest, [], [], python=python)[0]
        sample = sample or _accepted(project)
        schema = _schema(described, example, sample, hello.fields, source)
        rows = _rows(schema, example, sample, source)
        classes = _classes(project.task, hello.classes, source)
        manifest, digest = write_manifest(draft, msgspec.structs.replace(manifest, schema=schema, classes=classes))
        scorer = ProcessScorer(draft, manifest, digest, deadline_s=_DEADLINE_S)

        def answers(columns: Columns) -> NDArray[Any]:
            return runner.run(scorer.score(columns))

        try:
            runner.run(scorer.start())
            golden, _ = golden_rows(rows, schema, answers)
            counts = profile(rows, answers(rows), schema, privacy=project.privacy)
        except ScoringError as error:
            raise BundleError(
                f"{source} does not answer its example as a {project.task.kind} model must: {error} A classifier needs "
                "predict_proba: log it by its own flavor, or with pyfunc_predict_fn='predict_proba'."
            ) from error
        finally:
            runner.run(scorer.close())
        write_golden(draft, manifest, golden, privacy=project.privacy)
        (draft / PROFILE).write_bytes(encode_profile(counts))
        return close(draft, manifest, into=project.state / "bundles", key=key)


def _fetch(project: Project, source: str, into: Path) -> Any:
    """Copy the model's files; what its MLmodel file says. Reads YAML and JSON only."""
    folder = project.root / source
    try:
        with quiet():
            if source.startswith(_REMOTE):
                if not mlflow.is_tracking_uri_set():  # type: ignore[no-untyped-call]
                    raise BundleError(f"{source} is in an MLflow registry: say in which, in MLFLOW_TRACKING_URI.")
                folder = Path(
                    mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(into.parent / "raw"))
                )
            shutil.copytree(folder, into, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.rmtree(into.parent / "raw", ignore_errors=True)
            return mlflow.models.Model.load(str(into))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise BundleError(
            f"{source} cannot be read as an MLflow model ({error}): check its name and version."
        ) from error


def _example(described: Any, folder: Path) -> pd.DataFrame | None:
    with quiet():
        example = described.load_input_example(str(folder)) if described.saved_input_example_info else None
    return example if isinstance(example, pd.DataFrame) else None


def _accepted(project: Project) -> Sample | None:
    """Accepted rows of the main table, from its first to its last; None if there are none yet."""
    main = project.data.main
    if main not in snapshot(project).tables:
        return None
    rows, schema = read_conformed(project, load_contract(project), main)
    picked = np.linspace(0, rows.num_rows - 1, min(rows.num_rows, _SAMPLE_ROWS)).astype(np.int64)
    return schema, columns_of(rows.take(picked), schema)


def _schema(
    described: Any, example: pd.DataFrame | None, sample: Sample | None, fields: Sequence[str], source: str
) -> Schema:
    specs = described.signature.inputs if described.signature else None
    known = {column.name: column for column in (sample[0].columns if sample else ())}
    if specs is None or not specs.has_input_names():
        if not fields or not known.keys() >= set(fields):
            fitted = f"the main table has not the columns that it was fitted on ({', '.join(fields)})"
            raise BundleError(
                f"{source} has no signature that names its columns, and "
                f"{fitted if fields else 'does not say them itself'}, so its events are not known: log it again with "
                "signature=mlflow.models.infer_signature(X, model.predict(X)), X a DataFrame."
            )
        return Schema(columns=tuple(known[name] for name in fields))
    columns = []
    for spec in specs.inputs:
        kind = KINDS.get(getattr(spec.type, "name", ""))
        if kind is None:
            raise BundleError(
                f"{source} takes {spec.name!r} as {spec.type}, which no field of an event can be: log it with columns "
                f"of {', '.join(KINDS)}."
            )
        # A signature calls a number "required" whose value may be NaN: what the rows show decides.
        if example is not None:
            gaps = bool(example[spec.name].isna().any())
        else:
            gaps = spec.name in known and known[spec.name].nullable
        columns.append(Column(name=spec.name, kind=kind, nullable=gaps or not spec.required))
    return Schema(columns=tuple(columns))


def _rows(schema: Schema, example: pd.DataFrame | None, sample: Sample | None, source: str) -> Columns:
    rows: Columns = {}
    if example is not None:
        for column in schema.columns:
            if column.kind == "timestamp" and example[column.name].dt.tz is None:
                example[column.name] = example[column.name].dt.tz_localize("UTC")
        rows = from_frame(example, schema)
    elif sample is not None:
        rows = {column.name: _sampled(column, sample, source) for column in schema.columns}
    if not count(rows):
        raise BundleError(
            f"{source} has no input example, so nothing can be compared: log it again with input_example=X.head(20), "
            "or passerelle ingest rows of the main table first."
        )
    return rows


def _sampled(column: Column, sample: Sample, source: str) -> NDArray[Any]:
    """A field's values in the main table, as the model's schema has them."""
    schema, rows = sample
    if column.name not in schema.names:
        raise BundleError(
            f"{source} takes {column.name!r}, and the main table has no such column: {', '.join(schema.names)}."
        )
    kind = schema.column(column.name).kind
    if kind != column.kind and (kind, column.kind) != ("integer", "number"):
        raise BundleError(
            f"{source} takes {column.name!r} as {column.kind}, and contract.toml calls it {kind}: log the model again "
            "with input_example=X.head(20), or correct contract.toml."
        )
    values = rows[column.name]
    if kind in ("timestamp", "date"):
        return values
    present = (None if value is None or value != value else value for value in values.tolist())  # noqa: PLR0124  (NaN)
    return as_array([*present], column)


def _environment(python: str, bundle: Path) -> Environment:
    """What is installed for this interpreter; it may be another than ours."""
    try:
        told = subprocess.run(  # noqa: S603  (the interpreter that the project names)
            [python, "-I", "-c", _DESCRIBE], capture_output=True, check=True, env=environment(), text=True
        )
    except OSError as error:
        raise missing_interpreter(python, bundle, error) from error
    except subprocess.CalledProcessError as error:
        raise BundleError(
            f"{python} has no Passerelle: run {python} -m pip install passerelle mlflow-skinny."
        ) from error
    version, packages = json.loads(told.stdout)
    return Environment(python=python, python_version=version, platform=platform.platform(), packages=packages)


def _classes(task: Task, own: Sequence[Label], source: str) -> tuple[Label, ...]:
    """The classes in the order of the answers, by the model's own classes_ and the project's positive one."""
    if task.kind == "regression":
        return ()
    if task.kind == "multiclass":
        if not own:
            raise BundleError(f"{source} does not say its classes (classes_): log it by its own flavor, like sklearn.")
        return tuple(own)
    if not own:  # a function that gives a probability: of the positive class, as the project names it
        return (not task.positive, True) if task.positive is True else (f"not {task.positive}", task.positive)
    others = [label for label in own if label != task.positive]
    if len(others) != 1 or len(own) != 2:  # noqa: PLR2004  (binary)
        raise BundleError(
            f"{source} answers the classes {list(own)}, and {task.positive!r} must be one of two: correct "
            "[task] positive in passerelle.toml."
        )
    return others[0], next(label for label in own if label == task.positive)
