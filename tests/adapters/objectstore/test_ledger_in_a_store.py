"""A ledger that two endpoints elsewhere keep in an object store: gathered exactly once, and judged as one on a disk."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from store_writing import BATCH, DAYS, batches
from trial_days import DAY, START, plan_of, prediction, project_in, write

from passerelle.adapters.objectstore import open_store
from passerelle.cli import main
from passerelle.deployment.spec import Deployment, Variant
from passerelle.errors import LedgerError
from passerelle.ledger import compaction, stored
from passerelle.ledger.forgetting import forget
from passerelle.ledger.segments import frame, header
from passerelle.ledger.storage import ledger_folder, open_storage
from passerelle.ledger.views import ask, totals
from passerelle.ledger.watermarks import read_position
from passerelle.loop.rollout import revisions
from passerelle.loop.tick import gather
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.evidence import close_blocks
from passerelle.trial.judging import judge
from passerelle.trial.verdict import Block, Verdict

pytest_plugins = ["store_fixtures"]
HERE = Path(__file__).parent
RIPE = START + (DAYS + 2) * DAY


def revise(project: Project, at: str | None, *, after: int = 0) -> None:
    """A revision whose ledger is kept at an address."""
    made = Deployment(
        project="trips",
        environment="production",
        revision=after + 1,
        variants=(Variant(version=1, bundle="/bundles/a", digest="a" * 64),),
        salt="s",
        ledger_at=at,
        created_at=START,
        reason="a test",
    )
    revisions(project, "production").put(made, after=after)


def endpoint(address: str, slot: str, first: int, last: int) -> subprocess.Popen[str]:
    """A writer's process."""
    command = [sys.executable, str(HERE / "store_writing.py"), address, slot, str(first), str(last)]
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1] / "trial")])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths})


def run(address: str, slot: str, first: int, last: int) -> int:
    """A writer's process, to its end: how many batches it wrote."""
    with endpoint(address, slot, first, last) as writer:
        said, _ = writer.communicate(timeout=60)
    assert writer.returncode == 0
    return said.count("\n")


def judged(project: Project, *, now: datetime) -> tuple[list[Block], Verdict]:
    """The trial's blocks and verdict, without what only says where records lie."""
    engine = open_state(project.state)
    plan = plan_of()
    record = trials.current(engine, "production") or trials.start(engine, plan)
    blocks = close_blocks(project, record, now=now)
    return [msgspec.structs.replace(block, position=None) for block in blocks], judge(plan, blocks, now=now)


def test_a_trial_elsewhere_ends_in_the_same_verdict(address: str, tmp_path: Path) -> None:
    made = batches()
    half = len(made) // 2
    here, there = project_in(tmp_path / "here"), project_in(tmp_path / "there")
    write(here, [record for batch in made for record in batch])
    revise(there, address)

    # The same slot: two containers know nothing of each other.
    with endpoint(address, "worker-0", half, len(made)) as other, endpoint(address, "worker-0", 0, half) as killed:
        assert killed.stdout is not None
        acknowledged = [int(killed.stdout.readline()) for _ in range(3)]
        killed.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in killed.stdout]
        other.communicate(timeout=60)
    assert (killed.returncode, other.returncode) == (-signal.SIGKILL, 0)
    kept = {record.id for number in acknowledged for record in made[number]}
    kept |= {record.id for batch in made[half:] for record in batch}

    first = gather(there, "production", now=RIPE)
    assert (first >= len(acknowledged) + len(made) - half, gather(there, "production", now=RIPE)) == (True, 0)
    folder = ledger_folder(there.state, "production")
    found = {row[0] for row in ask(folder, "SELECT id FROM all_predictions UNION SELECT id FROM all_outcomes").rows}
    assert found >= kept, "what was acknowledged is there"
    assert totals(folder).repeats == 0
    assert list(open_store(address).list("segments")) == []

    # Whoever asked the one that was killed asks again what was not answered.
    assert run(address, "worker-1", len(acknowledged), half) == half - len(acknowledged)
    gather(there, "production", now=RIPE)
    assert totals(folder).repeats <= BATCH, "at most one batch arrived whose answer did not"
    blocks, verdict = judged(there, now=RIPE)
    assert (blocks, verdict) == judged(here, now=RIPE)
    assert (len(blocks), verdict.kind) == (DAYS, "ROLL_BACK")
    assert set(read_position(folder).writers) == {
        row[0] for row in ask(folder, "SELECT DISTINCT writer FROM all_predictions").rows
    }


def test_killed_between_the_commit_and_the_deletion_nothing_is_doubled(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_in(tmp_path)
    revise(project, address)
    run(address, "worker-0", 0, 4)
    with monkeypatch.context() as patch:
        patch.setattr("passerelle.adapters.objectstore.ObjectStorage.delete", _die)
        with pytest.raises(LedgerError, match="died"):
            gather(project, "production", now=RIPE)
    assert stored.gathered_until(ledger_folder(project.state, "production")) == datetime.min.replace(
        tzinfo=START.tzinfo
    )
    held = totals(ledger_folder(project.state, "production"))
    assert compaction.compact(
        ledger_folder(project.state, "production"), now=RIPE, storage=open_storage(address, tmp_path)
    ) == compaction.Compaction(segments=4, repeated=4)
    assert totals(ledger_folder(project.state, "production")) == held


def _die(*_: object) -> None:
    raise LedgerError("died")


def test_no_day_is_closed_beyond_what_was_read_of_the_store(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_in(tmp_path)
    revise(project, address)
    run(address, "worker-0", 0, len(batches()))
    assert gather(project, "production", now=START + 2 * DAY + timedelta(minutes=5)) > 0
    with monkeypatch.context() as patch:
        patch.setattr("passerelle.adapters.objectstore.ObjectStorage.names", _die)
        with pytest.raises(LedgerError, match="died"):
            gather(project, "production", now=RIPE)
    assert len(judged(project, now=RIPE)[0]) == 2, "the third day's events may still lie in the store"
    gather(project, "production", now=RIPE)
    assert len(judged(project, now=RIPE)[0]) == DAYS


def test_the_verb_sees_what_lies_in_the_store_and_says_what_it_cannot_read(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_in(tmp_path)
    settings = '[project]\nname = "trips"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
    (tmp_path / "passerelle.toml").write_text(settings)
    revise(project, address)
    run(address, "worker-0", 0, 2)

    def verb(*options: str) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(main, ["-C", str(project.root), "ledger", "--json", *options])
        return done.exit_code, json.loads(done.stdout)

    code, seen = verb()
    assert (code, seen["unread"], seen["compaction"]["segments"]) == (0, None, 2)
    assert seen["totals"]["predictions"] == seen["compaction"]["predictions"] > 0
    run(address, "worker-1", 2, 3)
    with monkeypatch.context() as patch:
        patch.setattr("passerelle.adapters.objectstore.ObjectStorage.names", _die)
        for options in ([], ["--compact"]):
            code, blind = verb(*options)
            assert (code, blind["unread"], blind["totals"]) == (1, "died", seen["totals"])
    code, seen = verb("--compact")
    assert (code, seen["unread"], seen["compaction"]["segments"]) == (0, None, 1)


def test_a_place_that_was_left_is_read_for_a_day(address: str, tmp_path: Path) -> None:
    project = project_in(tmp_path)
    revise(project, address)
    assert gather(project, "production", now=START) == 0
    revise(project, None, after=1)
    assert gather(project, "production", now=START + DAY / 2) == 0
    run(address, "worker-0", 0, 1)
    assert gather(project, "production", now=START + DAY) == 1
    folder = ledger_folder(project.state, "production")
    for day in (2, 3):
        gather(project, "production", now=START + day * DAY)
        assert list(stored.places(folder)) == ([address] if day == 2 else [])
    assert stored.gathered_until(folder) is None


def test_a_unit_is_forgotten_in_the_store_too(address: str, tmp_path: Path) -> None:
    project = project_in(tmp_path)
    revise(project, address)
    folder = ledger_folder(project.state, "production")
    gather(project, "production", now=START)
    slot = open_storage(address, folder).claim("worker-0")
    slot.append(header() + frame([prediction("me", START, [0.5]), prediction("you", START, [0.5])]))
    assert forget(folder, "me", unit_column=None, salt="").predictions == 1
    assert ask(folder, "SELECT id FROM all_predictions").rows == [("you",)]
    assert list(open_store(address).list("segments")) == []
