"""Every Scorer passes the same checks: add a case to CASES, made from nothing but a folder to work in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from passerelle.bundle.compile import compile_form
from passerelle.bundle.export import export
from passerelle.bundle.inline import InlineScorer
from passerelle.bundle.manifest import Environment, Manifest, Provenance
from passerelle.errors import BundleError
from passerelle.notebook.answers import score
from passerelle.notebook.frame import from_frame, infer_schema
from passerelle.notebook.submission import Answers
from passerelle.testing.conformance import ScorerCase, ScorerCheck, scorer_checks
from passerelle.testing.scorers import MemoryScorer


def in_memory(_: Path) -> ScorerCase:
    columns = {"hour": np.arange(1.0, 31.0), "late": np.arange(30) % 3}
    return ScorerCase(
        make=lambda: MemoryScorer(lambda rows: rows["late"] / rows["hour"]),
        make_broken=lambda: MemoryScorer(lambda rows: rows["hour"], broken=BundleError()),
        columns=columns,
        expected=(columns["late"] / columns["hour"])[:, None],
        failing={"hour": np.array([np.nan, 1.0]), "late": np.array([1, 1])},
    )


def inline(folder: Path) -> ScorerCase:
    rng = np.random.default_rng(0)
    origins = np.array(["EWR", "JFK", "LGA"])
    frame = pd.DataFrame({"hour": rng.integers(5, 23, 200), "origin": rng.choice(origins, 200)})
    schema = infer_schema(frame, {})
    columns = from_frame(frame, schema)
    parts = ColumnTransformer([("n", StandardScaler(), ["hour"]), ("w", OneHotEncoder(), ["origin"])])
    model = make_pipeline(parts, LogisticRegression()).fit(frame, frame["origin"])
    expected = score(model, None, columns, schema=schema, task="multiclass", classes=origins.tolist())
    manifest = Manifest(
        project="flights",
        task="multiclass",
        target="origin",
        classes=tuple(origins.tolist()),
        schema=schema,
        provenance=Provenance(created_at=datetime(2013, 2, 1, tzinfo=UTC)),
        environment=Environment(python=sys.executable, python_version="3.11", platform="linux", packages={}),
        files={},
    )
    for name, golden in (("good", expected), ("broken", expected[::-1])):
        bundle = folder / name
        export(model, schema, task="multiclass", classes=origins.tolist(), into=bundle / "described")
        compile_form(bundle / "described", bundle / "inline")
        Answers(inputs=columns, outputs=golden).write(bundle / "golden.msgpack")
    return ScorerCase(
        make=lambda: InlineScorer(folder / "good", manifest),
        make_broken=lambda: InlineScorer(folder / "broken", manifest),
        columns=columns,
        expected=expected,
        failing={"hour": np.array([5, 6]), "origin": np.array(["EWR", "HPN"], dtype=object)},
    )


CASES: dict[str, Callable[[Path], ScorerCase]] = {"memory": in_memory, "inline": inline}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ScorerCase:
    return CASES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize(
    ("name", "check"), list(scorer_checks()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_scorer(name: str, check: ScorerCheck, case: ScorerCase) -> None:
    assert name
    asyncio.run(check(case))


def test_the_checks_can_fail() -> None:
    """A scorer that answers by the batch's mean, in float32, backwards or with one number too few is found out."""
    columns = {"hour": np.arange(1.0, 31.0) / 3}
    wrong = {
        "mean": lambda rows: rows["hour"] - rows["hour"].mean(),
        "float32": lambda rows: rows["hour"].astype(np.float32),
        "backwards": lambda rows: rows["hour"][::-1],
        "changes": lambda rows: np.multiply(rows["hour"], 2, out=rows["hour"]) / 2,
    }
    for function in wrong.values():
        failed = []
        for name, check in scorer_checks():
            fresh = {field: array.copy() for field, array in columns.items()}
            case = ScorerCase(
                make=lambda function=function: MemoryScorer(function),
                make_broken=lambda function=function: MemoryScorer(function),
                columns=fresh,
                expected=columns["hour"][:, None],
            )
            try:
                asyncio.run(check(case))
            except AssertionError:
                failed.append(name)
        assert "fails_to_start_and_closes" in failed
        assert len(failed) > 1, failed
