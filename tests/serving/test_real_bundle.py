"""The whole data plane on a real model: sealed, signed, served by the real workers; and what it must not import."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import httpx
import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from passerelle.bundle.keys import public_hex, throwaway_key
from passerelle.bundle.manifest import Provenance
from passerelle.bundle.seal import seal
from passerelle.deployment.spec import Variant
from passerelle.errors import ServingError
from passerelle.notebook.submission import Answers, Submission
from passerelle.schema import Column, Schema
from passerelle.serving.endpoint import start_endpoint

SCHEMA = Schema(columns=(Column(name="hour", kind="integer"), Column(name="wind", kind="number")))


def test_the_data_plane_loads_nothing_heavy() -> None:
    script = (
        "import importlib, pkgutil, sys, passerelle.serving as room\n"
        "for one in pkgutil.iter_modules(room.__path__): importlib.import_module(f'passerelle.serving.{one.name}')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "uvicorn", "passerelle"} <= set(loaded)
    heavy = {"pandas", "pyarrow", "sklearn", "mlflow", "duckdb", "deltalake", "plotly", "dbos", "sqlalchemy", "rich"}
    assert heavy & set(loaded) == set()


def test_a_fitted_model_is_served_as_the_notebook_computes_it(land: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": generator.integers(0, 24, 200), "wind": generator.normal(10, 3, 200)})
    model = LogisticRegression().fit(frame, frame["hour"] + frame["wind"] > 20)
    expected = model.predict_proba(frame)[:, 1]
    key = throwaway_key()
    variant = sealed(tmp_path, land, model, frame, key)
    land.deploy(1, variants=(variant,), trusted_keys=(public_hex(key),))
    with start_endpoint(land.project, "production", workers=1) as endpoint:
        (shown,) = httpx.get(f"{endpoint.url}/ready").json()["variants"]
        assert shown["kind"] in ("process", "inline")
        events = [{"id": f"{n}", "inputs": row} for n, row in enumerate(frame.to_dict("records"))]
        reply = httpx.post(f"{endpoint.url}/predict", json={"events": events}, timeout=30)
        assert reply.status_code == 200
        served = np.array([answer["probability"] for answer in reply.json()["predictions"]])
        assert np.abs(served - expected).max() <= 1e-12
        single = httpx.post(f"{endpoint.url}/predict", json={"inputs": events[7]["inputs"]}, timeout=30).json()
        assert abs(single["probability"] - expected[7]) <= 1e-12
        assert single["prediction"] is bool(expected[7] >= 0.5)
    assert len(land.records()) == 201


def test_a_bundle_of_a_stranger_is_not_served(land: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"hour": [1, 20], "wind": [1.0, 20.0]})
    model = LogisticRegression().fit(frame, [False, True])
    variant = sealed(tmp_path, land, model, frame, throwaway_key())
    land.deploy(1, variants=(variant,), trusted_keys=(public_hex(throwaway_key()),))
    with pytest.raises(ServingError, match=r"revision 1 cannot be served: .* is not trusted"):
        start_endpoint(land.project, "production")


def sealed(folder: Path, land: Any, model: Any, frame: pd.DataFrame, key: Any) -> Variant:
    """The model as a notebook submits it, sealed."""
    submission = folder / "submission"
    submission.mkdir()
    inputs = {"hour": frame["hour"].to_numpy(np.int64), "wind": frame["wind"].to_numpy(float)}
    Answers(inputs=inputs, outputs=model.predict_proba(frame)[:, 1:]).write(submission / "golden.msgpack")
    (submission / "model.pkl").write_bytes(cloudpickle.dumps({"model": model, "features": None, "events": None}))
    submitted = Submission(
        schema=SCHEMA,
        classes=(False, True),
        x_columns=SCHEMA.names,
        constants=(),
        rows=len(frame),
        proofs={},
        python=sys.executable,
        python_version=platform.python_version(),
        platform=platform.platform(),
        packages={},
        has_features=False,
    )
    (submission / "submission.json").write_bytes(msgspec.json.encode(submitted))
    bundle = seal(
        submission,
        into=folder / "bundles",
        project=land.project,
        provenance=Provenance(created_at=datetime(2026, 1, 5, tzinfo=UTC)),
        metrics={},
        key=key,
    )
    return Variant(version=1, bundle=str(bundle.path), digest=bundle.digest)
