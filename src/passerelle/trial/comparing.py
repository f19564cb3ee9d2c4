"""Comparing: the rows of some days as arrays, one entry for each event that a trial compares, with its loss. Pure.

A million rows are a few arrays, never a million objects. A model's own failure counts as the largest loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerelle.metrics import largest_loss, positions, row_losses
from passerelle.project.settings import TaskKind
from passerelle.trial.verdict import Plan

Array = NDArray[Any]
#: Probabilities may be this far from what they should be, as rounding makes them.
_ROUNDING = 1e-6


class Compared(NamedTuple):
    """The events that a trial compares, in the order of event time and id; the arrays are as long as there are events.

    In a shadow an event has two answers: ``rows`` are the champion's, ``beside`` the challenger's; in a split one.
    """

    #: As Day.rows has them.
    rows: pa.Table
    beside: pa.Table | None
    #: The events' units, and when they were, as microseconds since 1970.
    units: pa.ChunkedArray
    at_us: Array
    #: Did the challenger answer (a split)? All False in a shadow.
    challenger: Array
    #: Was the outcome known by the horizon?
    known: Array
    #: See Block.
    unpaired: int
    champion_late: int

    @property
    def sides(self) -> tuple[pa.Table, ...]:
        """The answers: the champion's and the challenger's, or in a split the one that each event had."""
        return (self.rows,) if self.beside is None else (self.rows, self.beside)


class Losses(NamedTuple):
    """Of the labelled events of a day, in order."""

    #: A shadow: champion's, challenger's; a split: of the answer that each event had, twice the same array.
    champion: Array
    challenger: Array
    #: Which answers failed, and which losses were cut at the cap; the same two.
    failed: tuple[Array, Array]
    capped: tuple[Array, Array]


def loss_bound(plan: Plan) -> float | None:
    """The largest loss that one event of the trial can have; None where it has no bound."""
    return largest_loss(plan.loss, cap=plan.cap, classes=max(2, len(plan.classes)))


def truths_of(texts: Sequence[str], task: TaskKind, classes: Sequence[Any]) -> Array:
    """Outcomes, as JSON text, in the form that metrics takes: positions in ``classes``, or numbers.

    >>> truths_of(["true", "false", "3"], "binary", (False, True)).tolist()
    [1, 0, -1]
    """
    values = [msgspec.json.decode(text) for text in texts]
    return np.array(values, dtype=np.float64) if task == "regression" else positions(values, classes)


def compare(plan: Plan, rows: pa.Table) -> Compared:
    """The events of a trial among the rows of some days, as ``read_days`` gives them."""
    live = pc.and_(pc.equal(rows["role"], "live"), pc.equal(rows["trial"], plan.id))
    mine = rows.filter(live)
    if plan.mode == "split":
        either = pc.is_in(mine["version"], value_set=pa.array([plan.champion, plan.challenger], pa.int64()))
        # Where one version answered everybody there was nothing to compare.
        drawn = mine.filter(pc.and_(either, pc.less(mine["probability"], 1.0)))
        return _compared(plan, drawn, None, unpaired=0, champion_late=0)
    shadow = pc.and_(pc.equal(rows["role"], "shadow"), pc.equal(rows["version"], plan.challenger))
    beside = rows.filter(shadow)
    answers = mine.filter(pc.equal(mine["version"], plan.champion))
    # A shadow is scored without haste: a champion that was late under load is not compared with it.
    champions = answers.filter(pc.not_equal(answers["status"], "timed_out"))
    place = pc.index_in(champions["id"], value_set=beside["id"].combine_chunks())
    paired = pc.is_valid(place)
    pairs = champions.filter(paired)
    return _compared(
        plan,
        pairs,
        beside.take(place.filter(paired)),
        unpaired=champions.num_rows - pairs.num_rows,
        champion_late=answers.num_rows - champions.num_rows,
    )


def only(compared: Compared, kept: Array) -> Compared:
    """Some of the events; ``kept`` says which."""
    mask = pa.array(kept)
    return compared._replace(
        rows=compared.rows.filter(mask),
        beside=None if compared.beside is None else compared.beside.filter(mask),
        units=compared.units.filter(mask),
        at_us=compared.at_us[kept],
        challenger=compared.challenger[kept],
        known=compared.known[kept],
    )


def losses_of(plan: Plan, compared: Compared) -> Losses:
    """Of each event, which must be labelled. A failure, or an answer of another shape, counts as the largest loss.

    Where the loss has no bound, that is the largest of these; NaN if there is none.
    """
    truth = _truths(plan, compared.rows["truth"])
    found = [_losses(plan, side, truth) for side in compared.sides]
    bound = loss_bound(plan)
    if bound is None and any((~failed).any() for _, failed, _ in found):
        bound = max(float(losses[~failed].max(initial=0.0)) for losses, failed, _ in found)
    for losses, failed, _ in found:
        losses[failed] = np.nan if bound is None else bound
    (champion, one, cut), (challenger, other, also) = found[0], found[-1]
    return Losses(champion, challenger, (one, other), (cut, also))


def invalid(plan: Plan, side: pa.Table) -> Array:
    """Which answers are none: of another shape than the champion's, or no probabilities."""
    outputs, shaped = _outputs(plan, side)
    scored = np.asarray(pc.equal(side["status"], "scored"), dtype=bool)
    wrong: Array = scored & ~shaped
    if plan.task != "regression" and shaped.any():
        astray = ((outputs < -_ROUNDING) | (outputs > 1 + _ROUNDING)).any(axis=1)
        if plan.task == "multiclass":
            astray |= np.abs(outputs.sum(axis=1) - 1) > len(plan.classes) * _ROUNDING
        wrong[shaped] |= astray
    return wrong


def scores_of(plan: Plan, side: pa.Table) -> Array:
    """One number for each answer: the probability, the largest of several, or the number; NaN where there is none."""
    outputs, shaped = _outputs(plan, side)
    found = np.full(side.num_rows, np.nan)
    if shaped.any():
        found[shaped] = outputs.max(axis=1)
    return found


def challenger_chances(compared: Compared) -> Array:
    """The probability, when it was answered, that the challenger would answer each event (of a split)."""
    chance = np.asarray(compared.rows["probability"], dtype=np.float64)
    return np.where(compared.challenger, chance, 1 - chance)


def _compared(plan: Plan, rows: pa.Table, beside: pa.Table | None, *, unpaired: int, champion_late: int) -> Compared:
    return Compared(
        rows,
        beside,
        rows["unit"],
        np.asarray(pc.cast(rows["event_at"], pa.int64()), dtype=np.int64),
        np.asarray(pc.equal(rows["version"], plan.challenger), dtype=bool),
        np.asarray(pc.is_valid(rows["truth"]), dtype=bool),
        unpaired,
        champion_late,
    )


def _outputs(plan: Plan, side: pa.Table) -> tuple[Array, Array]:
    """The answers of the right shape, of shape (these, outputs), and which rows they are of."""
    width = len(plan.classes) if plan.task == "multiclass" else 1
    right = pc.and_(pc.equal(side["status"], "scored"), pc.equal(pc.list_value_length(side["output"]), width))
    shaped = np.asarray(pc.fill_null(right, fill_value=False), dtype=bool)
    values = pc.list_flatten(side["output"].filter(pa.array(shaped)))
    return np.asarray(values, dtype=np.float64).reshape(-1, width), shaped


def _losses(plan: Plan, side: pa.Table, truth: Array) -> tuple[Array, Array, Array]:
    """The loss of each row (NaN where it failed), which failed, and which losses the cap has cut."""
    outputs, shaped = _outputs(plan, side)
    losses, cut = np.full(side.num_rows, np.nan), np.zeros(side.num_rows, dtype=bool)
    if shaped.any():
        whole = row_losses(plan.loss, outputs, truth[shaped])
        bound = loss_bound(plan)  # a cap's, or what probabilities cannot exceed but by rounding
        losses[shaped] = whole if bound is None else np.minimum(whole, bound)
        if plan.cap is not None:
            cut[shaped] = whole > plan.cap
    return losses, ~shaped, cut


def _truths(plan: Plan, texts: pa.ChunkedArray) -> Array:
    coded = texts.combine_chunks().dictionary_encode()
    values = truths_of(coded.dictionary.to_pylist(), plan.task, plan.classes)
    return np.asarray(values[np.asarray(coded.indices)])
