"""A real registry in a file: numbers, aliases, and one version per key."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy

from passerelle.bundle.manifest import Environment, Manifest, Provenance
from passerelle.bundle.seal import Bundle
from passerelle.errors import RegistryError
from passerelle.registry.versions import Registry
from passerelle.schema import Column, Schema
from passerelle.state.database import sqlite_url

#: A folder whose name a URI would read as something else.
STATE = "state, à 100 %, #1?"
MADE = datetime(2013, 1, 31, tzinfo=UTC)


def bundle(folder: Path, name: str) -> Bundle:
    """A bundle as the registry sees it: it opens none."""
    manifest = Manifest(
        project="flights",
        task="binary",
        target="late",
        schema=Schema(columns=(Column(name="hour", kind="integer"),)),
        provenance=Provenance(created_at=MADE),
        environment=Environment(python="python", python_version="3.11", platform="linux", packages={}),
        files={},
    )
    return Bundle(path=folder / name, digest=hashlib.sha256(name.encode()).hexdigest(), manifest=manifest)


def file_of(uri: str) -> Path:
    return Path(str(sqlalchemy.make_url(uri).database))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry without versions: MLflow takes seconds to make one, so it is made once and copied."""
    path = tmp_path_factory.mktemp("registry") / "registry.db"
    Registry("flights", sqlite_url(path))
    return path


@pytest.fixture
def uri(tmp_path: Path, empty: Path) -> str:
    path = tmp_path / STATE / "registry.db"
    path.parent.mkdir()
    shutil.copyfile(empty, path)
    return sqlite_url(path)


def test_versions_count_up_and_are_found_by_key(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry("flights", uri)
    assert registry.versions() == []
    assert registry.find("k1") is None
    assert registry.alias("champion") is None
    registry.drop_alias("champion")
    one = registry.register(bundle(tmp_path, "a"), key="k1", tags={"run": "k1"}, metrics={"auc": 0.7, "log_loss": 0.5})
    again = registry.register(bundle(tmp_path, "a"), key="k1", metrics={"auc": 0.9})
    two = registry.register(bundle(tmp_path, "b"), key="import:k2", metrics={})
    assert again == one
    assert (one.number, two.number) == (1, 2)
    assert one.digest == bundle(tmp_path, "a").digest
    assert one.path == tmp_path / "a"
    assert one.created_at == MADE
    assert one.metrics == {"auc": 0.7, "log_loss": 0.5}
    assert one.tags == {"run": "k1"}
    other = Registry("flights", uri)
    assert other.versions() == [one, two]
    assert other.find("import:k2") == two
    assert Registry("trains", uri).versions() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [STATE]
    assert [path.name for path in (tmp_path / STATE).iterdir()] == ["registry.db"]


def test_the_run_shows_the_metrics_in_mlflow(uri: str, tmp_path: Path) -> None:
    from passerelle.bundle.tracking import mlflow

    version = Registry("flights", uri).register(bundle(tmp_path, "a"), key="k1", metrics={"auc": 0.7})
    run = mlflow.MlflowClient(tracking_uri=uri).get_run(version.run)
    assert run.data.metrics == {"auc": 0.7}
    assert run.info.status == "FINISHED"


def test_a_run_that_was_cut_short_is_taken_up_again(uri: str, tmp_path: Path) -> None:
    registry = Registry("flights", uri)
    run = registry._run("k1", {"auc": 0.7})
    version = registry.register(bundle(tmp_path, "a"), key="k1", metrics={"auc": 0.7})
    assert version.run == run


def test_aliases_move_and_are_dropped(uri: str, tmp_path: Path) -> None:
    registry = Registry("flights", uri)
    for name in ("a", "b"):
        registry.register(bundle(tmp_path, name), key=name, metrics={})
    registry.set_alias("champion", 1)
    registry.set_alias("challenger", 2)
    assert registry.get("champion").number == 1
    assert registry.get("2").aliases == ("challenger",)
    registry.set_alias("champion", 2)
    registry.drop_alias("challenger")
    registry.drop_alias("challenger")
    assert registry.get(1).aliases == ()
    assert registry.alias("champion") == registry.get(2)
    assert registry.alias("challenger") is None
    with pytest.raises(RegistryError, match=r"flights has no version 3: there are 1, 2 \(champion\)\."):
        registry.set_alias("champion", 3)
    with pytest.raises(RegistryError, match="has no version 'challenger'"):
        registry.get("challenger")


def test_no_version_yet_says_how_to_make_one(uri: str) -> None:
    with pytest.raises(RegistryError, match="flights has no version yet: make one with passerelle train"):
        Registry("flights", uri).get("champion")


@pytest.mark.parametrize(
    ("schema", "words"), [("f" * 12, "made by a newer MLflow than"), ("451aebb31d03", "mlflow db upgrade sqlite")]
)
def test_another_schema_is_told_in_our_words(uri: str, schema: str, words: str) -> None:
    with sqlite3.connect(file_of(uri)) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (schema,))
    database.close()
    with pytest.raises(RegistryError, match=words):
        Registry("flights", uri)


def test_a_damaged_file_is_named_at_once(uri: str) -> None:
    path = file_of(uri)
    path.write_bytes(b"not a database at all")
    with pytest.raises(RegistryError, match=r"registry\.db is not a database"):
        Registry("flights", uri)
    assert path.read_bytes() == b"not a database at all"


def test_a_clean_process_says_nothing_and_leaves_nothing(uri: str, tmp_path: Path) -> None:
    program = f"from passerelle.registry.versions import Registry; print(Registry('flights', {uri!r}).versions())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=work, env=environment, capture_output=True, check=True
    )
    assert done.stdout == b"[]\n"
    assert done.stderr == b""
    assert list(work.iterdir()) == []
