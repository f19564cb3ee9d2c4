"""Judging: what a version reaches on rows that it has not seen, and whether a candidate passes beside the champion."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.events import event_rows
from passerelle.bundle.keys import trusted
from passerelle.bundle.opening import Form, open_scorer
from passerelle.bundle.verify import verify
from passerelle.errors import BundleError, KilledError, ScoringError
from passerelle.loop.gate import GateResult, judge
from passerelle.metrics import constant_answer, evaluate, positions
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry
from passerelle.schema import Columns, Schema, count, take

ROWS_AT_A_TIME = 1000

Tables = Mapping[str, tuple[Schema, Columns]]
"""Delivered tables: name → fields and rows. The main table's rows are the ones to judge on, with the target."""


def measure(
    project: Project, outputs: NDArray[Any], labels: NDArray[Any], classes: tuple[Any, ...]
) -> dict[str, float]:
    """Every metric of the task that is a number on these rows. ``labels`` are as delivered, ``classes`` the model's.

    A label that the model does not know counts as an answer that is wrong.
    """
    task = project.task.kind
    truth = labels.astype("float64") if task == "regression" else positions(labels.tolist(), classes)
    costs = project.assumed_costs
    found = evaluate(task, outputs, truth, action=costs.action, missed=costs.missed)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def score_rows(project: Project, bundle: Path, digest: str, inputs: Columns, *, form: Form = "auto") -> NDArray[Any]:
    """A bundle's answers to event rows, by its scorer, some at a time; errors as the Scorer has them."""

    async def score() -> NDArray[Any]:
        scorer = open_scorer(
            bundle,
            digest=digest,
            trusted_keys=trusted(project.state),
            deadline_s=project.serving.deadline_ms / 1000,
            form=form,
        )
        try:
            await scorer.start()
            parts = [
                await scorer.score(take(inputs, slice(first, first + ROWS_AT_A_TIME)))
                for first in range(0, count(inputs), ROWS_AT_A_TIME)
            ]
            return np.concatenate(parts)
        finally:
            await scorer.close()

    return asyncio.run(score())


def measure_bundle(project: Project, bundle: Path, digest: str, tables: Tables) -> dict[str, float]:
    """What a bundle reaches on the main table's rows, by its own event rows, classes and scorer."""
    keys = trusted(project.state)
    inputs = event_rows(bundle, digest=digest, trusted_keys=keys, tables=tables, main=project.data.main)
    outputs = score_rows(project, bundle, digest, inputs)
    labels = tables[project.data.main][1][project.task.target]
    return measure(project, outputs, labels, verify(bundle, digest=digest).manifest.classes)


def pass_gate(
    project: Project,
    registry: Registry,
    candidate: Mapping[str, float],
    tables: Tables,
    *,
    learnt: NDArray[Any],
    classes: tuple[Any, ...],
) -> GateResult:
    """The candidate's metrics beside what the champion reaches on the same rows.

    Before there is a champion, and beside one that cannot answer these rows (a field that is not delivered any more,
    say), the candidate must not be plainly worse than a constant: the shares, or the mean, of the labels ``learnt``.
    Raises KilledError if the champion's process is killed from outside.
    """
    champion = registry.alias("champion")
    labels = tables[project.data.main][1][project.task.target]
    constant = _constant(project, learnt, classes, len(labels))
    value = measure(project, constant, labels, classes).get(project.metric)
    rival, problem = "no champion yet, a constant answer", ""
    if champion is not None:
        try:
            value = measure_bundle(project, champion.path, champion.digest, tables).get(project.metric)
            rival = "champion"
        except KilledError:
            raise  # it says nothing of the champion: to take a constant in its place would weaken the gate
        except (BundleError, ScoringError, TimeoutError) as error:
            reason = str(error) or "it is too slow"
            rival = "a constant answer"
            problem = f" The champion, version {champion.number}, cannot answer these rows: {reason}"
    result = judge(
        project.metric,
        candidate=candidate.get(project.metric, math.nan),
        champion=value,
        margin=project.gate.margin,
        refuse_above=project.gate.refuse_above,
        rows=len(labels),
        rival=rival,
    )
    return msgspec.structs.replace(result, sentence=result.sentence + problem)


def _constant(project: Project, learnt: NDArray[Any], classes: tuple[Any, ...], rows: int) -> NDArray[Any]:
    task = project.task.kind
    truth = learnt.astype("float64") if task == "regression" else positions(learnt.tolist(), classes)
    return constant_answer(task, truth, len(classes), rows)
