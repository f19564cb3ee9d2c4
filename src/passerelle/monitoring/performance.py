"""Performance: the loss of a day's mature predictions, against what the model expected of itself and earlier days.

A day may be hard without anything being wrong, and a model that says so is no worse for it. So what is watched is the
*excess*: the day's mean loss less the loss that the model's own probabilities expect. For numbers, which expect
nothing, it is the logarithm of the day's mean loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerelle.bundle.manifest import Manifest
from passerelle.metrics import cost, positions, row_losses
from passerelle.monitoring.alerts import Finding
from passerelle.monitoring.control import e_value, gather, prediction_p
from passerelle.monitoring.parts import Bin, Slice, binned, sliced
from passerelle.notebook.submission import HOLDOUT, SUBMISSION, read_answers
from passerelle.project.settings import Loss, Project, TaskKind
from passerelle.schema import decode_columns

#: A day is compared with at most so many earlier days, without those that an alarm was about: a season.
TRAILING = 90
#: The fewest such days before a day is judged.
FEWEST = 5
#: A day less probable than this is out of control: only such a day raises an alarm, and it keeps an alert open. While
#: none is open it stays in the reference: rare days are part of what is ordinary, and a reference without them would
#: find the next rare day too improbable.
OUT_OF_CONTROL = 0.01
#: An alarm is said to have begun with the first of the days before it that are less probable than this.
UNLIKELY = 0.05
#: An alarm needs a mean loss of at least this many times the reference's: what is smaller calls nobody.
WORSE = 1.25
#: An alert closes after so many days in control in a row.
QUIET_DAYS = 2
#: What goes on for so many days that could be judged is how it is now: the alert closes, these days are the reference.
LASTING_DAYS = 14
#: A day with fewer rows than this share of the usual is shown and not judged; so is one with fewer than so many.
_USUAL_SHARE = 0.1
_FEWEST_ROWS = 20
#: A day whose outcomes came for less than this share of what is usual is blind: the loss says nothing any more.
_BLIND = 0.5


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a day."""

    #: Live predictions that were scored, with their outcome; without one when the horizon had passed; and failed ones.
    rows: int
    unlabelled: int
    failed: int
    #: Mean loss of the rows, and what the model's own probabilities expected of it; None without rows (for numbers).
    loss: float | None
    expected: float | None
    #: Version → its rows and mean loss, where several answered.
    versions: dict[str, dict[str, float]] = {}
    #: Mean business cost of a row, in the unit of [costs]; None where none are declared, or the task is not binary.
    cost: float | None = None
    #: Input field → value in words → its rows, of the fields that [monitoring] slices names. They raise no alert.
    slices: dict[str, dict[str, Slice]] = {}
    #: Calibration of the day, without empty bins, by score; () where the task is not binary.
    bins: tuple[Bin, ...] = ()


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A day against the days before it."""

    #: What is compared; None if the day cannot be judged.
    excess: float | None
    #: Probability of such a day after the earlier ones, and evidence gathered since the last alarm.
    p: float | None = None
    evidence: float = 0.0
    #: False if it is improbable; None if it was not judged (too few rows, or too few days before it).
    in_control: bool | None = None
    #: Mean loss of the reference's days, and how many they are.
    reference: float | None = None
    reference_days: int = 0
    #: Did it raise an alarm? Is one still going on after it? Days in control in a row, up to it.
    alarm: bool = False
    going_on: bool = False
    quiet: int = 0
    #: Judged days since the alarm, while it goes on; does the reference begin anew with them, up to this day?
    lasting: int = 0
    settled: bool = False
    #: True if outcomes stopped coming.
    blind: bool = False


def expected_loss(loss: Loss, outputs: NDArray[Any], task: TaskKind) -> NDArray[np.float64] | None:
    """The loss that each row's probabilities expect of themselves, if they are right; None for numbers.

    >>> expected_loss("brier", np.array([[0.25]]), "binary")
    array([0.1875])
    """
    if task == "regression":
        return None
    both = np.column_stack([1 - outputs[:, 0], outputs[:, 0]]) if task == "binary" else outputs
    if loss == "brier":
        total = 1 - (both**2).sum(axis=1)
        return np.asarray(total / 2 if both.shape[1] == 2 else total, dtype=np.float64)  # noqa: PLR2004  (two classes)
    if loss == "zero_one":
        return np.asarray(1 - both.max(axis=1), dtype=np.float64)
    safe = np.clip(both, 1e-300, 1)
    return np.asarray(-(both * np.log(safe)).sum(axis=1), dtype=np.float64)


def measure(
    rows: pa.Table, project: Project, classes: Sequence[Any], slices: Mapping[str, Mapping[str, str]] | None = None
) -> Figures:
    """A day's figures, of its live rows (as maturity.Day has them); ``slices``: field → id → slice (slicing)."""
    live = rows.filter(pc.equal(rows["role"], "live"))
    scored = live.filter(pc.equal(live["status"], "scored"))
    known = scored.filter(pc.is_valid(scored["truth"]))
    counts = {"unlabelled": scored.num_rows - known.num_rows, "failed": live.num_rows - scored.num_rows}
    if known.num_rows == 0:
        return Figures(rows=0, loss=None, expected=None, **counts)
    labels = [msgspec.json.decode(text) for text in known["truth"].to_pylist()]
    outputs = _outputs(known)
    losses, expected = _losses(project, outputs, labels, classes)
    happened = _happened(project, labels, classes)
    versions = known["version"].to_numpy()
    several = np.unique(versions)
    by_version = {
        str(version): _of_version(project, losses, outputs, happened, versions == version)
        for version in (several.tolist() if len(several) > 1 else ())
    }
    return Figures(
        rows=known.num_rows,
        loss=float(losses.mean()),
        expected=None if expected is None else float(expected.mean()),
        versions=by_version,
        cost=_cost(project, outputs, happened),
        slices={
            field: sliced(
                [names.get(one, "missing") for one in known["id"].to_pylist()],
                losses,
                lambda mine: _cost(project, outputs[mine], None if happened is None else happened[mine]),
            )
            for field, names in (slices or {}).items()
        },
        bins=() if happened is None else binned(outputs[:, 0], happened),
        **counts,
    )


def judge(earlier: Sequence[tuple[Figures, Judged]], day: Figures, *, false_alarm_every: float) -> Judged:
    """A day after the earlier ones (in order; the days held out at the run first). Pure.

    An alarm is raised when the evidence reaches ``false_alarm_every`` on a day that is out of control and whose loss is
    WORSE times the reference's; the evidence then begins again. What lasts for LASTING_DAYS becomes the reference.
    """
    before = earlier[-1][1] if earlier else Judged(excess=None)
    as_before = Judged(
        excess=None,
        evidence=before.evidence,
        quiet=before.quiet,
        going_on=before.going_on,
        lasting=before.lasting,
    )
    if _is_blind([one for one, _ in earlier], day):
        return msgspec.structs.replace(as_before, blind=True, alarm=True, going_on=True, quiet=0)
    excess = excess_of(day)
    base = _reference(earlier)
    usual = float(np.median([one.rows for one, _ in base])) if base else 0.0
    if excess is None or day.rows < max(_FEWEST_ROWS, _USUAL_SHARE * usual):
        return as_before
    if len(base) < FEWEST:
        return msgspec.structs.replace(as_before, excess=excess, reference_days=len(base))
    reference = float(np.mean([one.loss for one, _ in base if one.loss is not None]))
    p = float(prediction_p(np.array([judged.excess for _, judged in base], dtype=np.float64), excess))
    evidence = float(gather(before.evidence, e_value(p)))
    in_control = p >= OUT_OF_CONTROL
    relevant = day.loss is not None and day.loss >= WORSE * reference
    alarm = evidence >= false_alarm_every and relevant and not in_control
    quiet = before.quiet + 1 if in_control else 0
    over = before.going_on and quiet >= QUIET_DAYS
    going_on = alarm or (before.going_on and not over)
    lasting = before.lasting + 1 if going_on else 0
    settled = lasting >= LASTING_DAYS
    return Judged(
        excess=excess,
        p=p,
        evidence=0.0
        if alarm or over or settled
        else evidence,  # what has called somebody, or is over, is not used again
        in_control=in_control,
        reference=reference,
        reference_days=len(base),
        alarm=alarm,
        going_on=going_on and not settled,
        quiet=quiet,
        lasting=0 if settled else lasting,
        settled=settled,
    )


def _reference(earlier: Sequence[tuple[Figures, Judged]]) -> list[tuple[Figures, Judged]]:
    """The days that a day is compared with: no alarming ones, until what alarmed has become how it is."""
    known: list[tuple[Figures, Judged]] = []
    base: list[tuple[Figures, Judged]] = []
    for one in earlier:
        if one[1].excess is None:
            continue
        known.append(one)
        if one[1].settled:
            base = known[-LASTING_DAYS:]
        elif not _is_alarming(one[1]):
            base.append(one)
    return base[-TRAILING:]


def excess_of(day: Figures) -> float | None:
    """What is compared: mean loss less the expected one; for numbers the logarithm of the mean loss; None without rows.

    >>> excess_of(Figures(rows=900, unlabelled=0, failed=0, loss=0.25, expected=0.125))
    0.125
    """
    if day.loss is None:
        return None
    return math.log(max(day.loss, 1e-12)) if day.expected is None else day.loss - day.expected


def began(earlier: Sequence[tuple[datetime, Judged]], start: datetime) -> datetime:
    """The day on which what alarms at ``start`` began: the first of the unlikely days up to it, without a gap."""
    for day, judged in reversed(earlier):
        if judged.p is None or judged.p >= UNLIKELY or start - day != timedelta(days=1):
            break
        start = day
    return start


def finding(judged: Judged, day: Figures, start: datetime, *, before: Judged, since: datetime | None = None) -> Finding:
    """What a judged day means for the alert, in words; ``since`` is the day on which it began."""
    details = {"loss": day.loss, "expected": day.expected, "rows": day.rows, "unlabelled": day.unlabelled}
    details |= {"reference": judged.reference, "evidence": judged.evidence, "p": judged.p}
    name = f"{start:%Y-%m-%d}"
    if judged.blind:
        total = day.rows + day.unlabelled
        sentence = (
            f"outcomes stopped coming: {day.rows:,} of the {total:,} predictions of {name} had one when their horizon "
            "had passed, so nothing can be said of the model."
        )
        return Finding(state="firing", sentence=sentence, day=start, details={**details, "blind": True}, alone=True)
    if _is_alarming(judged):
        text = _sentence(judged, day, name)
        if since is not None and since < start:
            text += f" It began on {since:%Y-%m-%d}."
        return Finding(state="firing", sentence=text, day=start, began=since, details=details)
    if judged.settled:
        sentence = (
            f"the loss has not come back in {LASTING_DAYS} days, so this is how it is now: {_loss(day.loss)} on "
            f"{name}, where {_loss(judged.reference)} was ordinary. Later days are compared with these."
        )
        return Finding(state="quiet", sentence=sentence, day=start)
    if before.going_on and not judged.going_on:
        sentence = f"the loss is as on other days again: {_loss(day.loss)} on {name}, {QUIET_DAYS} such days in a row."
        return Finding(state="quiet", sentence=sentence, day=start)
    return Finding(state="unsure", day=start)


def _sentence(judged: Judged, day: Figures, name: str) -> str:
    itself = "" if day.expected is None else f"; its own scores expected {_loss(day.expected)} of that day"
    paid = "" if day.cost is None else f" It cost {day.cost:.3g} an event, in the unit of [costs]."
    times = f", {day.loss / judged.reference:.1f} times as much as" if day.loss and judged.reference else ", not as"
    return (
        f"the model lost {_loss(day.loss)} on {name} ({day.rows:,} predictions){times} on the "
        f"{judged.reference_days} ordinary days before ({_loss(judged.reference)}){itself}.{paid}"
    )


def _loss(value: float | None) -> str:
    return "nothing known" if value is None else f"{value:.3g}"


def _is_alarming(judged: Judged) -> bool:
    """Is it a day that an alarm is about? It is then no reference for later days."""
    return judged.going_on and judged.in_control is False


def _is_blind(earlier: Sequence[Figures], day: Figures) -> bool:
    """Did outcomes come for less than half of what is usual?"""
    shares = [one.rows / (one.rows + one.unlabelled) for one in earlier[-TRAILING:] if one.rows + one.unlabelled > 0]
    total = day.rows + day.unlabelled
    if len(shares) < FEWEST or total < _FEWEST_ROWS:
        return False
    return day.rows / total < _BLIND * float(np.median(shares))


def held_out_days(project: Project, manifest: Manifest) -> list[tuple[datetime, Figures]]:
    """The days that the champion's run held out, with its losses there: the reference that exists at once.

    Empty if the run's files are gone, the model was imported, or the project has no time column.
    """
    run, time = manifest.provenance.run, project.task.time
    kept = project.state / "holdouts" / f"{run}.msgpack"
    answers = project.state / "runs" / f"{run}" / SUBMISSION / HOLDOUT
    if run is None or time is None or not kept.is_file() or not answers.is_file():
        return []
    rows = decode_columns(kept.read_bytes())
    outputs = read_answers(answers).outputs
    lead = np.timedelta64(round(project.task.lead_hours * 3600), "s")
    days = (rows[time].astype("datetime64[us]") - lead).astype("datetime64[D]")
    labels = rows[project.task.target]
    found = []
    for day in np.unique(days):
        chosen = days == day
        figures = _figures(project, outputs[chosen], labels[chosen].tolist(), manifest.classes)
        start = datetime.combine(day.astype(object), datetime.min.time(), UTC)
        found.append((start, figures))
    most = max(figures.rows for _, figures in found)
    return [one for one in found if one[1].rows >= most / 2]  # the first and the last day are cut


def _figures(project: Project, outputs: NDArray[Any], labels: Sequence[Any], classes: Sequence[Any]) -> Figures:
    losses, expected = _losses(project, outputs, labels, classes)
    happened = _happened(project, labels, classes)
    return Figures(
        rows=len(losses),
        unlabelled=0,
        failed=0,
        loss=float(losses.mean()),
        expected=None if expected is None else float(expected.mean()),
        cost=_cost(project, outputs, happened),
        bins=() if happened is None else binned(outputs[:, 0], happened),
    )


def _of_version(
    project: Project,
    losses: NDArray[np.float64],
    outputs: NDArray[Any],
    happened: NDArray[np.bool_] | None,
    mine: NDArray[np.bool_],
) -> dict[str, float]:
    paid = _cost(project, outputs[mine], None if happened is None else happened[mine])
    found = {"rows": int(mine.sum()), "loss": float(losses[mine].mean())}
    return found if paid is None else {**found, "cost": paid}


def _happened(project: Project, labels: Sequence[Any], classes: Sequence[Any]) -> NDArray[np.bool_] | None:
    """Whether each row is of the positive class; None where the task is not binary."""
    return np.asarray(positions(labels, classes) == 1) if project.task.kind == "binary" else None


def _cost(project: Project, outputs: NDArray[Any], happened: NDArray[np.bool_] | None) -> float | None:
    costs = project.costs
    if costs is None or happened is None or not len(happened):
        return None
    return cost(outputs[:, 0], happened, action=costs.action, missed=costs.missed)


def _losses(
    project: Project, outputs: NDArray[Any], labels: Sequence[Any], classes: Sequence[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Each row's loss, and what its own probabilities expected of it."""
    task = project.task.kind
    truth = np.array(labels, dtype=np.float64) if task == "regression" else positions(labels, classes)
    losses = row_losses(project.loss, outputs, truth, cap=project.trial.cap)
    return losses, expected_loss(project.loss, outputs, task)


def _outputs(rows: pa.Table) -> NDArray[Any]:
    """The outputs of scored rows, of shape (rows, outputs)."""
    column = rows["output"].combine_chunks()
    return np.asarray(column.flatten()).reshape(rows.num_rows, -1)
