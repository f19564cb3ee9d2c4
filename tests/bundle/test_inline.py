from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from inline_cases import FITTED, NUMBERS, crossed, flights, one
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from passerelle.bundle import compile as compiling
from passerelle.bundle.compile import compile_form
from passerelle.bundle.form import Forest
from passerelle.bundle.inline import InlineScorer, equal
from passerelle.bundle.manifest import Environment, Manifest, Provenance
from passerelle.bundle.scorer import Scorer
from passerelle.errors import BundleError, ScoringError
from passerelle.notebook.submission import Answers
from passerelle.schema import Schema, take


def manifest_of(schema: Schema, task: Any = "binary", classes: tuple[Any, ...] = (False, True)) -> Manifest:
    return Manifest(
        project="flights",
        task=task,
        target="late",
        classes=classes,
        schema=schema,
        provenance=Provenance(created_at=datetime(2013, 2, 1, tzinfo=UTC)),
        environment=Environment(python=sys.executable, python_version="3.11", platform="linux", packages={}),
        files={},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, Answers]:
    """A bundle of gradient boosted trees whose thresholds are fractions, and its model's answers on all of January."""
    fields, late, _ = flights()
    frame = fields[[*NUMBERS, "carrier", "dest"]].assign(pace=fields["distance"] / (fields["air_time"] + 7))
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    parts = ColumnTransformer([("c", encoder, ["carrier", "dest"])], remainder="passthrough")
    model = make_pipeline(parts, HistGradientBoostingClassifier(max_iter=30, random_state=0))
    model.fit(frame[:FITTED], late[:FITTED])
    bundle = tmp_path_factory.mktemp("bundle")
    _, answers, schema = crossed(model, frame, bundle)
    rows = np.arange(0, len(answers.outputs), 9)
    golden = Answers(inputs=take(answers.inputs, rows), outputs=answers.outputs[rows])
    golden.write(bundle / "golden.msgpack")
    return bundle, manifest_of(schema), answers


@pytest.fixture
def bundle(made: tuple[Path, Manifest, Answers], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


def started(bundle: Path, manifest: Manifest) -> InlineScorer:
    scorer = InlineScorer(bundle, manifest)
    asyncio.run(scorer.start())
    return scorer


def test_it_answers_as_the_model_does(made: tuple[Path, Manifest, Answers]) -> None:
    bundle, manifest, answers = made
    scorer = started(bundle, manifest)
    assert isinstance(scorer, Scorer)
    assert scorer.kind == "inline"
    said = asyncio.run(scorer.score(answers.inputs))
    assert said.shape == (27004, 1)
    assert said.dtype == np.float64
    assert np.abs(said - answers.outputs).max() <= 1e-12
    alone = [asyncio.run(scorer.score(one(answers.inputs, row)))[0, 0] for row in range(200)]
    assert np.abs(np.array(alone) - answers.outputs[:200, 0]).max() <= 1e-12


def test_equal_says_how_far_a_form_is(made: tuple[Path, Manifest, Answers]) -> None:
    bundle, _, answers = made
    assert asyncio.run(equal(bundle / "inline", answers)) <= 1e-12
    other = Answers(inputs=answers.inputs, outputs=answers.outputs + np.where(answers.outputs > 0.5, 0.25, 0.0))
    assert asyncio.run(equal(bundle / "inline", other)) == pytest.approx(0.25, abs=1e-12)
    wider = Answers(inputs=answers.inputs, outputs=np.hstack([answers.outputs, answers.outputs]))
    assert asyncio.run(equal(bundle / "inline", wider)) == np.inf
    fewer = {name: array for name, array in answers.inputs.items() if name != "carrier"}
    assert asyncio.run(equal(bundle / "inline", Answers(inputs=fewer, outputs=answers.outputs))) == np.inf


def test_thresholds_rounded_to_float32_are_caught_by_the_golden_rows(
    made: tuple[Path, Manifest, Answers], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, manifest, answers = made
    exact = compiling.onnx_trees

    def rounded(forest: Forest, outputs: int) -> bytes:
        fields = {name: getattr(forest, name) for name in Forest.__struct_fields__}
        return exact(Forest(**fields | {"threshold": forest.threshold.astype("f4").astype("f8")}), outputs)

    monkeypatch.setattr(compiling, "onnx_trees", rounded)
    compile_form(bundle / "described", bundle / "inline")
    wrong = asyncio.run(equal(bundle / "inline", answers))
    assert 1e-4 < wrong < 1.0
    with pytest.raises(BundleError, match=r"differs from the model by 0\.\d+ on the golden rows: train again"):
        started(bundle, manifest)


def test_one_golden_answer_that_is_not_the_models_is_caught(made: tuple[Path, Manifest, Answers], bundle: Path) -> None:
    _, manifest, answers = made
    outputs = answers.outputs[:50].copy()
    outputs[49, 0] += 1e-11
    Answers(inputs=take(answers.inputs, slice(50)), outputs=outputs).write(bundle / "golden.msgpack")
    with pytest.raises(BundleError, match="differs from the model by 1e-11"):
        started(bundle, manifest)


@pytest.mark.parametrize("name", ["golden.msgpack", "inline/form.json", "inline/arrays.npz", "inline/trees-2.onnx"])
@pytest.mark.parametrize("damage", ["absent", "half"])
def test_a_damaged_file_is_named(made: tuple[Path, Manifest, Answers], bundle: Path, name: str, damage: str) -> None:
    path = bundle / name
    data = path.read_bytes()
    path.unlink()
    if damage == "half":
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=str(bundle)):
        started(bundle, made[1])


def test_a_form_of_another_task_is_refused(made: tuple[Path, Manifest, Answers]) -> None:
    bundle, manifest, _ = made
    with pytest.raises(BundleError, match="answers 1 numbers, and 3 are wanted"):
        started(bundle, manifest_of(manifest.schema, "multiclass", ("a", "b", "c")))


def test_what_cannot_be_scored_says_so_and_the_next_batch_is_answered(made: tuple[Path, Manifest, Answers]) -> None:
    bundle, manifest, answers = made
    scorer = started(bundle, manifest)
    few = take(answers.inputs, slice(3))
    lacking = {name: array for name, array in few.items() if name != "pace"}
    with pytest.raises(ScoringError, match="no field 'pace'"):
        asyncio.run(scorer.score(lacking))
    with pytest.raises(ScoringError, match="cannot be computed"):
        asyncio.run(scorer.score(few | {"pace": np.array(["x", "y", "z"], dtype=object)}))
    assert np.abs(asyncio.run(scorer.score(few)) - answers.outputs[:3]).max() <= 1e-12


def test_a_number_that_is_not_finite_never_leaves(tmp_path: Path) -> None:
    fields, _, delay = flights()
    frame = fields[["distance"]].astype(float)
    model = TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1)
    model.fit(frame, delay.clip(lower=0))
    program, *_ = crossed(model, frame, tmp_path, task="regression", classes=())
    assert program({"distance": np.array([500.0])}).shape == (1, 1)
    with pytest.raises(ScoringError, match=r"not a finite number in 1 rows \(first: row 2\)"):
        program({"distance": np.array([1.0, np.inf, -np.inf])})


def test_the_tolerance_of_large_numbers_is_relative(tmp_path: Path) -> None:
    fields, _, delay = flights()
    frame = fields[["distance", "sched_dep_time"]]
    model = RandomForestRegressor(25, random_state=0, n_jobs=1).fit(frame[:FITTED], delay[:FITTED] * 1e9)
    _, answers, schema = crossed(model, frame, tmp_path, task="regression", classes=())
    Answers(inputs=answers.inputs, outputs=answers.outputs * (1 + 3e-13)).write(tmp_path / "golden.msgpack")
    started(tmp_path, manifest_of(schema, "regression", ()))
    Answers(inputs=answers.inputs, outputs=answers.outputs * (1 + 3e-12)).write(tmp_path / "golden.msgpack")
    with pytest.raises(BundleError, match="differs"):
        started(tmp_path, manifest_of(schema, "regression", ()))


def test_serving_a_form_loads_nothing_heavy_and_unpickles_nothing(made: tuple[Path, Manifest, Answers]) -> None:
    script = """
import sys
for name in ("pandas", "sklearn", "pyarrow", "lightgbm", "onnx", "pickle5", "cloudpickle", "mlflow", "duckdb"):
    sys.modules[name] = None
import asyncio, pickle
from pathlib import Path
def refuse(*_, **__):
    raise AssertionError("unpickled")
pickle.load = pickle.loads = pickle.Unpickler = refuse
import msgspec
from passerelle.bundle.inline import InlineScorer
from passerelle.bundle.manifest import Manifest
from passerelle.notebook.submission import read_answers
bundle = Path(sys.argv[1])
scorer = InlineScorer(bundle, msgspec.json.decode(sys.stdin.buffer.read(), type=Manifest))
asyncio.run(scorer.start())
print(len(asyncio.run(scorer.score(read_answers(bundle / "golden.msgpack").inputs))))
"""
    bundle, manifest, _ = made
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle)],
        input=msgspec.json.encode(manifest),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) == 3001
