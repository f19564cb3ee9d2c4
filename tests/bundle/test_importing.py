"""Real MLflow models, logged as people log them, become bundles whose process answers as MLflow does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from passerelle.bundle.importing import import_model
from passerelle.bundle.keys import public_hex
from passerelle.bundle.opening import open_scorer
from passerelle.bundle.seal import Bundle
from passerelle.bundle.tracking import quiet
from passerelle.data.landing import ingest
from passerelle.errors import BundleError
from passerelle.notebook.frame import to_frame
from passerelle.notebook.submission import read_answers
from passerelle.project.settings import Project, ProjectSection, Task, TaskKind
from passerelle.schema import Column, Schema, as_array

with quiet():
    import mlflow.pyfunc
    import mlflow.sklearn

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def project(root: Path, kind: TaskKind, **task: Any) -> Project:
    return Project(
        project=ProjectSection(name="credit"), task=Task(kind=kind, target="bad", key=("client",), **task), root=root
    )


def frame(rows: int = 120) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": generator.integers(18, 80, rows),
            "income": generator.normal(100, 20, rows).round(1),
            "home": generator.choice(["rent", "owner", "parents"], rows),
        }
    )
    table.loc[::9, "income"] = np.nan
    table.loc[::11, "home"] = None
    return table


def save(model: Any, folder: Path, X: pd.DataFrame, *, example: bool = True, sign: bool = True) -> str:  # noqa: N803
    with quiet():
        mlflow.sklearn.save_model(
            model,
            folder,
            signature=mlflow.models.infer_signature(X, model.predict(X)) if sign else None,
            input_example=X.head(20) if example else None,
            pip_requirements=[],  # or MLflow loads the model once more to find them
            serialization_format="cloudpickle",  # the default, skops, is one more dependency
        )
    return str(folder)


def classifier(X: pd.DataFrame) -> Any:  # noqa: N803
    return make_pipeline(
        make_column_transformer(
            (SimpleImputer(), ["age", "income"]), (OneHotEncoder(handle_unknown="ignore"), ["home"])
        ),
        LogisticRegression(max_iter=1000),
    ).fit(X, np.where(X["age"] + X["income"].fillna(100) > 150, "bad", "good"))


def answer(bundle: Bundle, key: Ed25519PrivateKey, X: pd.DataFrame) -> Any:  # noqa: N803
    columns = {
        column.name: as_array([None if pd.isna(value) else value for value in X[column.name].tolist()], column)
        for column in bundle.manifest.schema.columns
    }

    async def live() -> Any:
        scorer = open_scorer(bundle.path, digest=bundle.digest, trusted_keys=[public_hex(key)], deadline_s=60)
        try:
            await scorer.start()
            return await scorer.score(columns)
        finally:
            await scorer.close()

    return asyncio.run(live())


def golden_gap(bundle: Bundle, predict: Callable[[pd.DataFrame], Any]) -> float:
    """How far the golden answers are from what the model, asked directly, says of these rows."""
    golden = read_answers(bundle.path / "golden.msgpack")
    said = np.asarray(predict(to_frame(golden.inputs, bundle.manifest.schema)))
    return float(np.abs(golden.outputs - said.reshape(golden.outputs.shape)).max())


def test_binary_pipeline_from_a_registry(
    tmp_path: Path, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    X = frame()  # noqa: N806
    model = classifier(X)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    with quiet():
        experiment = mlflow.create_experiment("theirs", artifact_location=(tmp_path / "theirs").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            signature = mlflow.models.infer_signature(X, model.predict(X))
            mlflow.sklearn.log_model(
                model,
                name="model",
                signature=signature,
                input_example=X.head(20),
                registered_model_name="credit",
                serialization_format="cloudpickle",
                pip_requirements=[],
            )
    mine = project(tmp_path / "mine", "binary", positive="bad")
    bundle = import_model(mine, "models:/credit/1", sample=None, trust=True, key=key, now=NOW)
    manifest = bundle.manifest
    assert manifest.classes == ("good", "bad")
    assert {column.name: (column.kind, column.nullable) for column in manifest.schema.columns} == {
        "age": ("integer", False),
        "income": ("number", True),
        "home": ("string", True),
    }
    assert manifest.provenance.imported_from == "models:/credit/1"
    assert manifest.environment.packages["pandas"] == pd.__version__
    assert bundle.path.parent == tmp_path / "mine" / ".passerelle" / "bundles"
    expected = model.predict_proba(X)[:, list(model.classes_).index("bad")]
    assert np.abs(answer(bundle, key, X)[:, 0] - expected).max() <= 1e-15
    golden = read_answers(bundle.path / "golden.msgpack")
    assert len(golden.outputs) > 20  # edge rows too
    assert golden.outputs[:, 0].max() <= 1
    assert not list(bundle.path.rglob("__pycache__"))


def test_multiclass_and_regression_from_folders(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    X = frame()[["age", "income"]]  # noqa: N806
    many = HistGradientBoostingClassifier(max_iter=5).fit(X, X["age"] % 3)
    source = save(many, tmp_path / "many", X)
    bundle = import_model(project(tmp_path, "multiclass"), source, sample=None, trust=True, key=key, now=NOW)
    assert bundle.manifest.classes == (0, 1, 2)
    assert golden_gap(bundle, many.predict_proba) <= 1e-15

    one = HistGradientBoostingRegressor(max_iter=5).fit(X.astype("float32"), X["age"] * 1000)
    source = save(one, tmp_path / "one", X.astype("float32"))  # 32-bit columns, which MLflow does not narrow to
    bundle = import_model(project(tmp_path, "regression"), source, sample=None, trust=True, key=key, now=NOW)
    assert bundle.manifest.classes == ()
    assert golden_gap(bundle, lambda rows: one.predict(rows.astype("float32"))) == 0


def test_pyfunc_that_gives_a_probability(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    with quiet():

        class Share(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
            def predict(self, context, model_input: pd.DataFrame, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG002  (MLflow reads hints)
                return model_input["age"].to_numpy() / 100

    X = frame()[["age"]]  # noqa: N806
    with quiet():
        mlflow.pyfunc.save_model(
            tmp_path / "share",
            python_model=Share(),
            pip_requirements=[],
            signature=mlflow.models.infer_signature(X, np.array([0.5])),
            input_example=X.head(5),
        )
    bundle = import_model(
        project(tmp_path, "binary"), str(tmp_path / "share"), sample=None, trust=True, key=key, now=NOW
    )
    assert bundle.manifest.classes == (False, True)
    assert golden_gap(bundle, lambda rows: rows["age"] / 100) == 0


def test_without_trust_nothing_is_read(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    with pytest.raises(BundleError, match=r"executes its code.*--trust"):
        import_model(project(tmp_path, "binary"), "nowhere", sample=None, trust=False, key=key, now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said(tmp_path: Path, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    X = frame()[["age", "income"]]  # noqa: N806
    model = HistGradientBoostingRegressor(max_iter=2).fit(X, X["age"])
    mine = project(tmp_path, "regression")

    def refused(source: str, mine: Project = mine) -> str:
        with pytest.raises(BundleError) as caught:
            import_model(mine, source, sample=None, trust=True, key=key, now=NOW)
        assert list((tmp_path / ".passerelle" / "bundles").iterdir()) == []  # no draft is left
        return str(caught.value)

    assert "no signature that names its columns, and the main table has not" in refused(
        save(model, tmp_path / "a", X, sign=False, example=False)
    )
    assert "no input example" in refused(save(model, tmp_path / "b", X, example=False))
    assert "cannot be read as an MLflow model" in refused(str(tmp_path / "nowhere"))
    binary = msgspec.structs.replace(mine, task=Task(kind="binary", target="bad", key=("client",), positive="late"))
    assert "correct [task] positive" in refused(save(classifier(frame()), tmp_path / "c", frame()), binary)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(None)
    assert "MLFLOW_TRACKING_URI" in refused("models:/credit/1")


def test_accepted_rows_stand_in_for_example_and_signature(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    X = frame()  # noqa: N806
    model = classifier(X)
    mine = project(tmp_path, "binary", positive="bad")
    delivery = tmp_path / f"{mine.data.main}.csv"
    X.assign(client=range(len(X))).to_csv(delivery, index=False)
    ingest(mine, [delivery], now=NOW)
    plain = save(model, tmp_path / "plain", X, sign=False, example=False)
    bundle = import_model(mine, plain, sample=None, trust=True, key=key, now=NOW)
    assert [(one.name, one.kind, one.nullable) for one in bundle.manifest.schema.columns] == [
        ("age", "integer", False),
        ("income", "number", True),
        ("home", "string", True),
    ]  # what the model was fitted on: not the client
    expected = model.predict_proba(X)[:, list(model.classes_).index("bad")]
    assert np.abs(answer(bundle, key, X)[:, 0] - expected).max() <= 1e-15

    signed = save(model, tmp_path / "signed", X, example=False)
    bundle = import_model(mine, signed, sample=None, trust=True, key=key, now=NOW)
    assert [(one.name, one.nullable) for one in bundle.manifest.schema.columns] == [
        ("age", False),
        ("income", True),
        ("home", True),
    ]


def test_rows_that_do_not_fit_the_model_are_told(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    X = frame()[["age", "income"]]  # noqa: N806
    source = save(HistGradientBoostingRegressor(max_iter=2).fit(X, X["age"]), tmp_path / "a", X, example=False)
    bare = save(
        HistGradientBoostingRegressor(max_iter=2).fit(X, X["age"]), tmp_path / "b", X, sign=False, example=False
    )

    def refused(source: str, *columns: Column) -> str:
        sample = (Schema(columns=columns), {column.name: as_array([], column) for column in columns})
        with pytest.raises(BundleError) as caught:
            import_model(project(tmp_path, "regression"), source, sample=sample, trust=True, key=key, now=NOW)
        return str(caught.value)

    age = Column(name="age", kind="integer")
    assert "takes 'income', and the main table has no such column: age" in refused(source, age)
    assert "takes 'income' as number, and contract.toml calls it string" in refused(
        source, age, Column(name="income", kind="string")
    )
    assert "the main table has not the columns that it was fitted on (age, income)" in refused(bare, age)
