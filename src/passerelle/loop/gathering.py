"""Gathering: an environment's segments, here and where endpoints elsewhere keep theirs, into the ledger's tables."""

from __future__ import annotations

from datetime import datetime

import msgspec

from passerelle.errors import LedgerError
from passerelle.ledger.compaction import Compaction, compact, seal_the_living
from passerelle.ledger.storage import LocalStorage, ledger_folder, open_storage
from passerelle.ledger.stored import expect, note
from passerelle.loop.rollout import revisions
from passerelle.project.settings import Project
from passerelle.state import sharing


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """What was moved."""

    #: None: nothing was looked for, since all there is is here.
    compaction: Compaction | None = None
    #: Which places could not be read, and why; None: all were.
    problem: str | None = None


def gather(project: Project, environment: str, *, now: datetime, here: bool = True) -> Gathered:
    """Ask the writers to seal what they hold, and move it into the tables; ``here=False``: only from elsewhere.

    A place that cannot be read stops no other, and no day is closed beyond what was read of it. Raises LedgerError if
    what lies here cannot be moved.
    """
    folder = ledger_folder(project.state, environment)
    current = revisions(project, environment).current()
    kept = expect(folder, None if current is None else current.ledger_at, now=now)
    if not folder.exists() or not (here or kept):
        return Gathered()
    done = Compaction()
    if here:
        seal_the_living(LocalStorage(folder))
        done = compact(folder, now=now)
    problems: list[str] = []
    for at in kept:
        try:
            storage = open_storage(at, folder)
            if isinstance(storage, LocalStorage):
                seal_the_living(storage)
            # This machine may be thrown away: no segment goes before its rows are where machines share their files.
            done += compact(folder, now=now, storage=storage, before_delete=lambda: sharing.put_up(project.state))
            note(folder, at, now=now)
        except LedgerError as error:
            problems.append(str(error))
    return Gathered(compaction=done, problem=" ".join(problems) or None)
