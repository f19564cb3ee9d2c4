"""What a trial said is signed when it has ended; whatever is changed afterwards is told, each in its own sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from living import A_DAY, make_project
from shelf import Shelf
from splitting import NOON
from test_trying import begun, last, live_days, told

from passerelle.bundle.keys import own_key, public_hex, throwaway_key, trust, trusted
from passerelle.cli import main
from passerelle.errors import StateError
from passerelle.loop.rollout import PRODUCTION
from passerelle.loop.signing import sign
from passerelle.project.settings import Project
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.trial.signing import canonical, check_file, read_file

ID = "production-2-2"
LATER = NOON + 20 * A_DAY


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The verbs go to the project's folder, and the key is the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose trial has promoted version 2, and is signed."""
    made = make_project(tmp_path / "orders")
    trust(made.state, public_hex(own_key()))
    begun(made, Shelf(made))
    live_days(made, Shelf(made), challenger=0.2)
    sign(made, PRODUCTION, now=LATER)
    return made


def verb(project: Project, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["-C", str(project.root), "trial", *arguments])


def refused(data: bytes, keys: tuple[str, ...]) -> bool:
    """Is this no record, or not what was signed?"""
    try:
        return not check_file(read_file(data)[0], data, keys).good
    except StateError:
        return True


def changed(project: Project, change: Callable[[dict[str, Any]], object]) -> None:
    """The trial's row, changed by somebody."""
    with writing(open_state(project.state)) as connection:
        value = connection.execute(sa.select(tables.trials.c.value)).scalar_one()
        change(value)
        connection.execute(tables.trials.update().values(value=value))


def test_it_is_signed_once_and_replay_verifies_both(project: Project) -> None:
    record = last(project)
    assert record.signed is not None
    assert record.signed.key == public_hex(own_key())
    assert record.signed.statement["plan"]["id"] == ID
    assert record.signed.statement["verdict"]["kind"] == "PROMOTE"
    assert record.signed.statement["execution"] == "PROMOTE, version 2 answers alone from revision 3"
    assert {"delta", "digest", "software", "table"} <= set(record.signed.statement)
    sign(project, PRODUCTION, key=throwaway_key(), now=LATER)
    assert last(project) == record
    assert len(told(project, "signature")) == 1
    result = verb(project, "replay")
    assert result.exit_code == 0, result.output
    assert "The same from the ledger alone, over" in result.output
    assert f"Signed by the key {record.signed.key[:16]}, which this project trusts, and unchanged" in result.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row["verdict"].update(rows=1), "What the state keeps is not what was signed: verdict."),
        (lambda row: row.update(execution="nothing"), "What the state keeps is not what was signed: execution."),
        (lambda row: row["signed"]["statement"].update(revision=7), "The signature does not belong to it"),
        (lambda row: row["signed"].update(signature="00" * 64), "The signature does not belong to it"),
        (lambda row: row["signed"].update(key=public_hex(throwaway_key())), "The signature does not belong to it"),
        (lambda row: row.update(signed=None), "Its signature is missing"),
    ],
)
def test_what_was_changed_in_the_state_is_told(
    project: Project, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    changed(project, change)
    sign(project, PRODUCTION, now=LATER)
    result = verb(project, "replay", ID)
    assert result.exit_code == 1
    assert said in result.output


def test_a_block_that_was_changed_is_told(project: Project) -> None:
    with writing(open_state(project.state)) as connection:
        start, value = connection.execute(sa.select(tables.blocks.c.start, tables.blocks.c.value)).first() or (None, {})
        mine = tables.blocks.c.start == start
        connection.execute(tables.blocks.update().where(mine).values(value=value | {"rows": 1}))
    result = verb(project, "replay", ID)
    assert result.exit_code == 1
    assert "The block table is not the one that was signed." in result.output


def test_a_key_that_is_not_trusted_is_told(project: Project) -> None:
    for path in (project.state / "trust").glob("*.pub"):
        path.unlink()
    result = verb(project, "replay")
    assert result.exit_code == 1
    assert "which this project does not trust: if you know whose it is" in result.output


def test_an_old_record_has_no_signature_and_that_is_no_fault(project: Project) -> None:
    changed(project, lambda row: row.update(signed=None, software=None))
    sign(project, PRODUCTION, now=LATER)
    assert last(project).signed is None
    result = verb(project, "replay")
    assert result.exit_code == 0
    assert "It ended before Passerelle signed such records: no signature." in result.output


def test_a_key_that_cannot_be_read_is_told_once_and_the_trial_is_signed_later(tmp_path: Path) -> None:
    made = make_project(tmp_path / "orders")
    begun(made, Shelf(made))
    live_days(made, Shelf(made), challenger=0.2)
    own_key()
    path = tmp_path / "config" / "passerelle" / "key.pem"
    path.chmod(0o644)
    for _ in range(2):
        sign(made, PRODUCTION, now=LATER)
    assert last(made).signed is None
    assert len(told(made, "signature")) == 1
    assert "may be read by other users" in told(made, "signature")[0]
    assert verb(made, "replay").exit_code == 1
    path.chmod(0o600)
    sign(made, PRODUCTION, now=LATER + timedelta(minutes=1))
    assert last(made).signed is not None


def test_an_auditor_takes_the_record_away_and_verifies_it_against_the_ledger(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    assert verb(project, "record", ID, "--out", str(out)).exit_code == 0
    assert verb(project, "record").output == out.read_text()
    with writing(open_state(project.state)) as connection:
        connection.execute(tables.blocks.delete())
        connection.execute(tables.trials.delete())
    result = verb(project, "replay", "--record", str(out))
    assert result.exit_code == 0, result.output
    assert "PROMOTE: version 2" in result.output
    assert "which this project trusts, and unchanged" in result.output


def test_every_byte_of_the_record_counts(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    verb(project, "record", "--out", str(out))
    whole = out.read_bytes()
    value = json.loads(whole)
    leaves = [
        ({**value, "statement": {**value["statement"], "digest": "0"}}, "The signature does not belong to it"),
        ({**value, "blocks": value["blocks"][:-1]}, "The block table is not the one that was signed."),
        ({**value, "signature": ""}, "It has no signature"),
        ({**value, "key": public_hex(throwaway_key())}, "The signature does not belong to it"),
        ({**value, "more": 1}, "this is no record of a trial"),
        ({**value, "format": 2}, "this record has format 2"),
    ]
    for other, said in leaves:
        out.write_text(json.dumps(other))
        result = verb(project, "replay", "--record", str(out))
        assert result.exit_code == 1, said
        assert said in result.output
    keys = trusted(project.state)
    assert check_file(read_file(whole)[0], whole, keys).good
    for place in range(len(whole)):
        byte = whole[place : place + 1]
        broken = whole[:place] + (b"7" if byte != b"7" else b"8") + whole[place + 1 :]
        assert refused(broken, keys), whole[place - 20 : place + 20]


def test_a_trial_that_runs_is_not_signed_and_has_no_record(tmp_path: Path) -> None:
    made = make_project(tmp_path / "orders")
    begun(made, Shelf(made))
    sign(made, PRODUCTION, now=NOON)
    assert last(made).signed is None
    result = verb(made, "replay")
    assert result.exit_code == 0
    assert "It has not ended: it is signed when it has." in result.output
    result = verb(made, "record")
    assert result.exit_code == 1
    assert "has not ended: its record is written when it has" in result.output


def test_the_same_value_is_the_same_bytes() -> None:
    assert canonical({"b": [1.5, None], "a": "é"}) == '{"a":"é","b":[1.5,null]}'.encode()
