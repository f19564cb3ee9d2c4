"""Another past of a lived project: the same outcomes arrive in another order, and corrections come too late.

``python rearriving.py PROJECT`` replays every trial of a copy of it; exit code 1 if one verdict or figure differs.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from passerelle.ledger.compaction import compact
from passerelle.ledger.records import Outcome
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.ledger.tables import SCHEMAS
from passerelle.ledger.views import open_views, totals
from passerelle.loop.rollout import PRODUCTION
from passerelle.project.settings import Project, load_project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.replaying import Replayed, replay

#: What replaying does not read, and what is large.
_LEFT = shutil.ignore_patterns("runs", "data", "holdouts", "quarantine", "loop.db*", "registry.db*")
#: Where and when a record arrived.
_ARRIVAL = ("received_at", "writer", "sequence", "position")
_CONTRARY = """
CASE value WHEN 'true' THEN 'false' WHEN 'false' THEN 'true' ELSE (value::DOUBLE + 1000)::VARCHAR END
"""
#: Of each outcome its event's day, its contrary, and when that is said.
_TOLD = f"""
SELECT o.*, p.event_at, {_CONTRARY} AS contrary,
    p.event_at + to_seconds($horizon_s) AS due
FROM all_outcomes o JOIN (SELECT id, event_at FROM predictions WHERE role = 'live') p USING (id) ORDER BY id
"""  # noqa: S608  (constants of this file)


def copy_of(project: Path, target: Path) -> Project:
    """What replaying reads of a lived project."""
    shutil.copytree(project, target, ignore=_LEFT)
    return load_project(target / "passerelle.toml")


def rearrive(project: Project, *, seed: int, known: timedelta = timedelta(seconds=1)) -> tuple[int, int]:
    """Shuffle arrivals and correct every outcome falsely, all too late; how many arrive elsewhere, and corrections.

    The outcomes of a day's events change places in the ledger, and moments of receipt, among each other. Every outcome
    is then contradicted three times: where it was itself read, but ``known`` after its horizon has passed (0: just in
    time, which is not too late); after all has been read, known then; and after all, known in time.
    """
    folder = ledger_folder(project.state, PRODUCTION)
    now = datetime.now(UTC)
    compact(folder, now=now)
    assert totals(folder).uncompacted == 0
    with open_views(folder) as views:
        told = views.sql(_TOLD, params={"horizon_s": project.task.horizon_hours * 3600}).to_arrow_table()
    days = np.asarray(pc.floor_temporal(told["event_at"], unit="day")).astype("int64")
    dice = np.random.default_rng(seed)
    before, shuffled = (np.lexsort((ties, days)) for ties in (np.arange(len(days)), dice.random(len(days))))
    places = np.empty(len(days), dtype=np.int64)
    places[before] = shuffled
    arrivals = told.select(_ARRIVAL).take(places)
    again = pa.table({name: (arrivals if name in _ARRIVAL else told)[name] for name in SCHEMAS["outcomes"].names})
    read_too = again.set_column(1, "value", told["contrary"])
    read_too = read_too.set_column(2, "known_at", pc.add(told["due"], pa.scalar(known)))
    read_too = read_too.set_column(3, "received_at", pc.add(again["received_at"], pa.scalar(timedelta(microseconds=1))))
    write_deltalake(
        folder / "outcomes", pa.concat_tables([again, read_too]).cast(SCHEMAS["outcomes"]), mode="overwrite"
    )
    rows: list[dict[str, Any]] = told.select(["id", "contrary", "due"]).to_pylist()
    asyncio.run(
        record(LocalStorage(folder), [late for row in rows for late in _too_late(row, now)], slot="corrections")
    )
    return int((places != np.arange(len(days))).sum()), 3 * len(rows)


def _too_late(row: dict[str, Any], now: datetime) -> tuple[Outcome, Outcome]:
    value = msgspec.json.decode(row["contrary"])
    known_in_time, known_now = (
        Outcome(id=row["id"], value=value, known_at=at, received_at=now) for at in (row["due"], now)
    )
    return known_in_time, known_now


def replayed(project: Project) -> list[Replayed]:
    """Every trial's verdict, recomputed."""
    return [replay(project, trial) for trial in trials.identifiers(open_state(project.state))]


def check_another_past(project: Path, scratch: Path) -> int:
    """Whatever comes too late changes no verdict, no day and no figure; and what comes in time does change them.

    Answers how many outcomes came at another moment than they did.
    """
    for known, seed in ((timedelta(seconds=1), 1), (timedelta(0), 2)):
        copy = copy_of(project, scratch / f"past-{seed}")
        moved, corrections = rearrive(copy, seed=seed, known=known)
        assert corrections > 0
        again = replayed(copy)
        assert again
        for one in again:
            assert (one.same, one.recomputed == one.kept) == ((known > timedelta(0),) * 2), one.differences
    return moved


def main() -> int:
    """Replay the trials of a lived project on a copy with another past."""
    with tempfile.TemporaryDirectory() as scratch:
        project = copy_of(Path(sys.argv[1]), Path(scratch) / "project")
        moved, corrections = rearrive(project, seed=1)
        sys.stdout.write(f"{moved} outcomes arrived elsewhere, {corrections} false corrections came too late\n")
        again = replayed(project)
    for one in again:
        said = "same" if one.same and one.recomputed == one.kept else "DIFFERS"
        sys.stdout.write("\n  ".join([f"{said}: {one.recomputed.sentence}", *one.differences]) + "\n")
    return 0 if again and all(one.same and one.recomputed == one.kept for one in again) else 1


if __name__ == "__main__":
    sys.exit(main())
