"""Submissions of real models, as a notebook hands them over, and their bundles."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.bundle.keys import throwaway_key
from passerelle.bundle.manifest import Provenance
from passerelle.bundle.seal import Bundle, seal
from passerelle.notebook.answers import score
from passerelle.notebook.submission import Answers, Submission
from passerelle.project.settings import Project, ProjectSection, Task
from passerelle.schema import Column, Columns, Schema

SCHEMA = Schema(
    columns=(
        Column(name="hour", kind="integer"),
        Column(name="temp", kind="number", nullable=True),
        Column(name="origin", kind="string", nullable=True),
    )
)
MADE = datetime(2026, 1, 5, tzinfo=UTC)

Rows = Callable[..., Columns]
Submit = Callable[..., Path]
Make = Callable[..., Bundle]


def sigmoid() -> Any:
    """A model of arithmetic alone: its answer to a row does not depend on others. Made inside, so pickled by value."""

    class Sigmoid:
        classes_ = (False, True)

        def predict_proba(self, X: Any) -> Any:  # noqa: N803
            p = 1 / (1 + np.exp(-(X["hour"].to_numpy() - 12.0) / 6 - np.nan_to_num(X["temp"].to_numpy()) / 50))
            p = np.where(X["origin"] == "EWR", p * 0.9, p)
            return np.column_stack([1 - p, p])

    return Sigmoid()


def rows(count: int = 30, seed: int = 0) -> Columns:
    generator = np.random.default_rng(seed)
    temp = generator.normal(10, 8, count)
    temp[::7] = np.nan
    origin = generator.choice(np.array(["EWR", "JFK", "LGA", None], dtype=object), count)
    return {"hour": generator.integers(0, 24, count), "temp": temp, "origin": origin}


def project(**privacy: Any) -> Project:
    return Project(
        project=ProjectSection(name="flights"),
        task=Task(kind="binary", target="late", key=("id",)),
        privacy=privacy,
    )


@pytest.fixture(name="rows", scope="session")
def _rows() -> Rows:
    """Events for the model, some of whose values are missing."""
    return rows


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    return throwaway_key()


@pytest.fixture
def submit(tmp_path: Path) -> Submit:
    """Write a submission's folder; golden answers are computed here, as the notebook would."""

    def write(
        model: Any = None,
        *,
        features: Any = None,
        events: Any = None,
        python: str = sys.executable,
        packages: dict[str, str] | None = None,
        golden: Answers | None = None,
    ) -> Path:
        folder = tmp_path / "submission"
        folder.mkdir(exist_ok=True)
        model = model or sigmoid()
        inputs = rows()
        if golden is None:
            classes = (False, True)
            outputs = score(model, features, inputs, schema=SCHEMA, task="binary", classes=classes)
            golden = Answers(inputs=inputs, outputs=outputs, truth={"late": inputs["hour"] > 12})
        golden.write(folder / "golden.msgpack")
        (folder / "model.pkl").write_bytes(cloudpickle.dumps({"model": model, "features": features, "events": events}))
        submission = Submission(
            schema=SCHEMA,
            classes=(False, True),
            x_columns=SCHEMA.names,
            constants=(),
            rows=30,
            proofs={},
            python=python,
            python_version=platform.python_version(),
            platform=platform.platform(),
            packages=packages
            or {name: importlib.metadata.version(name) for name in ("numpy", "pandas", "cloudpickle", "msgspec")},
            has_features=features is not None,
        )
        (folder / "submission.json").write_bytes(msgspec.json.encode(submission))
        return folder

    return write


@pytest.fixture
def make(tmp_path: Path, submit: Submit, key: Ed25519PrivateKey) -> Make:
    """Seal a model."""

    def sealed(model: Any = None, *, privacy: dict[str, Any] | None = None, **keywords: Any) -> Bundle:
        return seal(
            submit(model, **keywords),
            into=tmp_path / "bundles",
            project=project(**(privacy or {})),
            provenance=Provenance(run="r1", created_at=MADE),
            metrics={"auc": 0.7},
            key=key,
        )

    return sealed
