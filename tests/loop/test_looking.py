from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from passerelle.errors import DeploymentError, LedgerError
from passerelle.ledger.privacy import hash_value
from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.looking import Look, forget_unit, look
from passerelle.loop.rollout import revisions
from passerelle.project.settings import Project, load_project

NOW = datetime(2013, 3, 1, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "contract.toml").write_text("")
    path = tmp_path / "passerelle.toml"
    path.write_text(
        '[project]\nname = "mails"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\nunit = "mail"\n'
    )
    return load_project(path)


def write(project: Project, environment: str, *units: str, torn: bytes = b"") -> str:
    """Predictions in one sealed segment, then some bytes; its file."""
    folder = ledger_folder(project.state, environment)
    predictions = [
        Prediction(
            id=f"{environment}-{number}",
            unit=unit,
            role="live",
            status="scored",
            revision=1,
            version=1,
            digest="d" * 64,
            inputs={"mail": unit},
            output=(0.5,),
            event_at=NOW,
            received_at=NOW,
        )
        for number, unit in enumerate(units)
    ]
    asyncio.run(record(LocalStorage(folder), predictions, slot="w0"))
    name = LocalStorage(folder).names()[-1]
    with (folder / "segments" / name.file).open("ab") as file:
        file.write(torn)
    return name.file


def seen(project: Project, *, compact: bool) -> Look:
    return look(project, "production", last=5, sql=None, compact=compact, now=NOW)


def test_a_damaged_segment_is_told_before_when_and_after_it_is_compacted(project: Project) -> None:
    file = write(project, "production", "ada", torn=b"torn")
    found = seen(project, compact=False)
    assert found.lines()[0].startswith(f"Damaged: {file}: torn at byte ")
    assert (found.totals.damaged, found.totals.predictions, found.compaction) == (0, 1, None)
    found = seen(project, compact=True)
    assert found.lines()[0] == "1 segments were moved into the tables."
    assert found.lines()[1].startswith(f"Damaged: {file}: torn at byte ")
    assert found.compaction is not None
    assert len(found.compaction.damaged) == 1
    found = seen(project, compact=False)
    assert found.damage == ()
    assert found.lines()[0].endswith("damaged 1")


def test_what_has_no_ledger_or_no_name_is_refused(project: Project) -> None:
    with pytest.raises(LedgerError, match="nothing has been recorded in production yet"):
        seen(project, compact=False)
    with pytest.raises(LedgerError, match="cannot name an environment"):
        look(project, "../../esc", last=5, sql=None, compact=False, now=NOW)
    with pytest.raises(DeploymentError, match="cannot name an environment"):
        revisions(project, "../../esc")


def test_a_unit_is_erased_also_where_nothing_was_ever_deployed(project: Project) -> None:
    write(project, "old", "ada", "bob", hash_value("ada", "mail", "a salt that is lost"))
    write(project, "production", "ada", "bob")
    (project.state / "ledger" / ".DS_Store").write_bytes(b"no ledger")
    erased = forget_unit(project, "ada", now=NOW)
    assert erased["ledger of old"] == (
        "1 predictions and 0 outcomes erased; it has no revisions, so by the name alone: what was hashed is not found"
    )
    assert ask(ledger_folder(project.state, "old"), "SELECT id FROM predictions ORDER BY id").rows == [
        ("old-1",),
        ("old-2",),
    ]
    assert ask(ledger_folder(project.state, "production"), "SELECT unit FROM predictions").rows == [("bob",)]
