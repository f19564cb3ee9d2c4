"""Replaying: recomputes a trial's verdict from the ledger alone, as it was read then, beside its plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from passerelle.bundle.keys import trusted
from passerelle.decoding import prepared
from passerelle.errors import StateError
from passerelle.ledger.storage import ledger_folder
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.breaker import broken_verdict, recount
from passerelle.trial.evidence import read_block
from passerelle.trial.failing import failing
from passerelle.trial.judging import UNCOUNTED, digest, judge
from passerelle.trial.signing import Checked, check_file, check_record, read_file
from passerelle.trial.verdict import Block, Plan, Record, Verdict

#: Sums of the same numbers in another order (another machine's arithmetic) may differ by this.
_TOLERANCE = 1e-12
_SHOWN = 20
#: Figures of a verdict that earlier ones do not have.
_LATER = ("design_effect", "better_unit", "capped", "coverage", "breaker")


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A trial's verdict, recomputed."""

    #: The verdict that was kept; of a running trial, what its kept blocks say.
    kept: Verdict
    #: What the ledger says, read up to where it was read when each block was closed.
    recomputed: Verdict
    #: How many blocks were recomputed.
    blocks: int
    #: Are they the same, and what they were computed from too? Of their figures: the words of a sentence may change.
    same: bool
    #: What differs, a sentence each.
    differences: tuple[str, ...] = ()
    #: What is to be said of the record's signature.
    signature: Checked


def replay(project: Project, trial_id: str) -> Replayed:
    """Recompute every kept block of a trial and its verdict. Raises StateError if there is no such trial, LedgerError.

    What was erased since (``passerelle forget``) is missing, and shows as a difference.
    """
    engine = open_state(project.state)
    record = trials.find(engine, trial_id)
    if record is None:
        known = ", ".join(trials.identifiers(engine)) or "none"
        raise StateError(f"there is no trial {trial_id!r}: the trials are {known}.")
    checked = check_record(record, trials.table(engine, trial_id), trusted(project.state))
    return _replay(project, record, trials.blocks(engine, trial_id), checked)


def replay_file(project: Project, data: bytes) -> Replayed:
    """The same of a record that was written for an auditor: nothing of the state is asked but whom the project trusts.

    Raises StateError for what is no record, LedgerError.
    """
    file, record = read_file(data)
    checked = check_file(file, data, trusted(project.state))
    try:
        blocks = [msgspec.convert(block, prepared(Block)) for block in file.blocks]
    except msgspec.ValidationError as error:
        raise StateError(f"the block table of this record cannot be read ({error}). {checked.sentence}") from error
    return _replay(project, record, blocks, checked)


def _replay(project: Project, record: Record, kept_blocks: Sequence[Block], checked: Checked) -> Replayed:
    plan = record.plan
    folder = ledger_folder(project.state, plan.environment)
    again = [read_block(folder, plan, block.start, upto=block.position) for block in kept_blocks]
    again = [_as_counted(one, other) for one, other in zip(kept_blocks, again, strict=True)]
    recomputed = judge(plan, again, now=record.decided_at)
    kept = record.verdict or judge(plan, kept_blocks)
    differences = list(_block_differences(kept_blocks, again))
    if record.digest is not None and digest(plan, kept_blocks) != record.digest:
        differences.append("the plan or the block table is not what the verdict was decided from: its digest differs")
    if kept.breaker is not None:
        recomputed, again_broken = _broken_again(folder, plan, kept, recomputed, again)
        differences += again_broken
    elif kept.watched is not None and recomputed.kind == "KEEP_GOING":
        recomputed = failing(folder, plan, again, now=kept.watched.until, watched=kept.watched) or recomputed
    elif _was_set_aside(kept, recomputed):
        # Somebody ended it before it decided: then the blocks must not have decided either.
        recomputed = kept
    differences += _verdict_differences(kept, recomputed)
    return Replayed(
        kept=kept,
        recomputed=recomputed,
        blocks=len(again),
        same=not differences,
        differences=tuple(differences[:_SHOWN]),
        signature=checked,
    )


def _broken_again(
    folder: Path, plan: Plan, kept: Verdict, recomputed: Verdict, blocks: Sequence[Block]
) -> tuple[Verdict, list[str]]:
    """The breaker's count, again; and that the blocks had decided nothing when it ended the trial."""
    if kept.breaker is None or recomputed.kind != "KEEP_GOING":
        return recomputed, []
    broken = recount(folder, plan, kept.breaker)
    if broken is None:
        counted = f"{kept.breaker.failed} failures of {kept.breaker.answers} answers"
        return recomputed, [f"the ledger does not say what the circuit breaker ended the trial for: {counted}"]
    return broken_verdict(plan, blocks, broken), []


def _was_set_aside(kept: Verdict, recomputed: Verdict) -> bool:
    """Was the trial ended, undecided, by somebody, and do its blocks say that it was undecided?"""
    return kept.kind == "INCONCLUSIVE" and recomputed.kind == "KEEP_GOING" and _alike(kept, recomputed)


def _alike(one: msgspec.Struct, other: msgspec.Struct) -> bool:
    names = ("blocks", "rows", "estimate", "lower", "upper", "promote_evidence", "rollback_evidence")
    return all(_same(getattr(one, name), getattr(other, name)) for name in names)


def _as_counted(kept: Block, again: Block) -> Block:
    """A recomputed block without what was not counted when it was kept: the verdict did not rest on it."""
    return msgspec.structs.replace(again, **{name: None for name in UNCOUNTED if getattr(kept, name) is None})


def _block_differences(kept: Sequence[Block], again: Sequence[Block]) -> list[str]:
    found = []
    for one, other in zip(kept, again, strict=True):
        for name in (field.name for field in msgspec.structs.fields(Block)):
            before, after = getattr(one, name), getattr(other, name)
            if not _same(before, after):
                shown = "" if name in ("values", "position") else f": {before} was kept, the ledger says {after}"
                found.append(f"{one.start:%Y-%m-%d}: {name} differs{shown}")
    return found


def _verdict_differences(kept: Verdict, again: Verdict) -> list[str]:
    found = []
    for name in (field.name for field in msgspec.structs.fields(Verdict) if field.name != "sentence"):
        before, after = getattr(kept, name), getattr(again, name)
        if before is None and name in _LATER:
            continue
        if not _same(before, after):
            found.append(f"the verdict's {name} differs: {before} was kept, the ledger says {after}")
    return found


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE * 1000, abs_tol=_TOLERANCE)
    if isinstance(one, msgspec.Struct) and type(one) is type(other):
        return _same(msgspec.structs.astuple(one), msgspec.structs.astuple(other))
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return all(_same(left, right) for left, right in zip(one, other, strict=True))
    return one == other
