"""The tour: live a recorded period of a project through the real parts, and report what came out.

All deliveries but the last are ingested and trained on; the rows of the last are sent to the real endpoint, each as its
own event, and their outcomes follow at their own time. What was predicted is then compared, row by row, with what the
notebook's own functions say about the same rows in one piece.

Everything is found before it is made again: cut short at any point, the same command goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.keys import throwaway_key, trusted
from passerelle.bundle.opening import open_scorer
from passerelle.clock import Clock
from passerelle.data.landing import ingest
from passerelle.ledger.compaction import compact
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask, totals
from passerelle.loop.recorded import Period, read_period, split_deliveries
from passerelle.loop.replay import Replayed, replay
from passerelle.loop.report import chart, write_page
from passerelle.loop.rollout import PRODUCTION, deploy, reconcile
from passerelle.loop.train import Training, holdout_path, registry_of, train
from passerelle.metrics import auc, evaluate, positions, rates_by_value
from passerelle.notebook.submission import HANDOUT
from passerelle.project.settings import FILE, Project, load_project
from passerelle.schema import TOLERANCE, decode_columns
from passerelle.serving.endpoint import start_endpoint
from passerelle.state.database import open_state
from passerelle.state.timeline import events

UNFINISHED = "unfinished"
#: Ids of events that had to be sent again, of this attempt and of earlier ones that were cut.
REPEATED = "repeated.txt"


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Events against records. Lost and duplicated must be 0."""

    events_sent: int
    predictions_in_ledger: int
    outcomes_in_ledger: int
    lost: int
    duplicated: int


class ServedParity(msgspec.Struct, frozen=True, kw_only=True):
    """What was served against what the notebook's functions say about the same rows in one piece."""

    rows: int
    max_abs_diff: float
    flips: int


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """How the endpoint answered: events a second, and milliseconds of whole requests."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int


class TourReport(msgspec.Struct, frozen=True, kw_only=True):
    """report.json."""

    totals: Totals
    parity: ServedParity
    service: Service
    #: Metrics of the live predictions against their outcomes, and baseline_auc: the best single column, as a table.
    model: dict[str, float]
    seconds: float

    @property
    def holds(self) -> bool:
        """Nothing lost, nothing doubled, nothing different from the notebook."""
        same = self.parity.max_abs_diff <= TOLERANCE and self.parity.flips == 0
        return same and self.totals.lost == 0 and self.totals.duplicated == 0 and self.service.errors == 0

    def lines(self) -> list[str]:
        """The report, for a person."""
        totals, parity, service = self.totals, self.parity, self.service
        judged = "  ".join(f"{name} {value:.4g}" for name, value in self.model.items())
        sent = f"{totals.events_sent:,} events answered, {totals.lost} lost, {totals.duplicated} doubled"
        same = f"{parity.rows:,} rows, largest difference {parity.max_abs_diff:.3g}, {parity.flips} flips"
        fast = f"{service.rate:,.0f} events/s, p50 {service.p50_ms:.1f} ms, p99 {service.p99_ms:.1f} ms"
        return [
            f"{sent}; {totals.outcomes_in_ledger:,} outcomes.",
            f"Served against the notebook: {same}.",
            f"In requests of up to 50: {fast}, {service.errors} errors.",
            f"Against the truth that came later: {judged}.",
            f"{self.seconds:.0f} seconds.",
        ]


def live(source: Path, out: Path, *, workers: int | None, now: Clock) -> TourReport:
    """Live the project in ``source``, in a copy of it below ``out``; write out/report.json and out/report.html.

    Raises DataError if there are not two deliveries of the main table: one to learn from, one to answer.
    """
    started = time.time()
    project = _prepare(source, out)
    learn, answer = split_deliveries(project)
    ingest(project, learn, now=now())
    _say(f"{len(learn)} deliveries ingested; the notebook trains on them")
    training = train(
        project,
        now=now(),
        key=throwaway_key(),
        on_step=lambda number, total, what: _say(f"  cell {number}/{total}  {what}"),
    )
    _say(f"version {training.version}: {training.gate.sentence if training.gate else 'made before'}")
    registry = registry_of(project)
    deploy(project, registry, training.version, reason="the tour's first model", now=now())
    reconcile(project, registry)
    period = read_period(project, registry.get(training.version), answer)
    done = _recorded(project)
    asked = [one for one in period.asked if one.id not in done[0]]
    told = [one for one in period.told if one.id not in done[1]]
    _say(f"{len(asked):,} events go to the endpoint, each before its outcome")
    with start_endpoint(project, PRODUCTION, port=0, workers=workers or project.serving.workers) as endpoint:
        replayed = replay(endpoint.url, asked, told, on_step=_progress(), on_repeat=_noting(out / REPEATED))
    seconds = time.time() - started
    report = _judge(project, training, period, replayed, repeated=out / REPEATED, seconds=seconds, now=now)
    _write(report, project, training, period, out)
    (out / UNFINISHED).unlink(missing_ok=True)
    return report


def _say(text: str) -> None:
    click.echo(text, err=True)


def _noting(path: Path) -> Any:
    """Notes the ids of a request before it is sent again: a second record of theirs is a repeat, not a fault."""

    def on_repeat(ids: list[str]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{id_}\n" for id_ in ids)

    return on_repeat


def _progress() -> Any:
    """Says every 2,000 events how far the replay is, and in which day."""
    last = [0]

    def on_step(sent: int, total: int, at: Any) -> None:
        if sent - last[0] >= 2000 or sent == total:  # noqa: PLR2004  (a rhythm for people)
            last[0] = sent
            _say(f"  {sent:,} of {total:,} events, {at:%d %B %Y}")

    return on_step


def _prepare(source: Path, out: Path) -> Project:
    """A copy of the project to live in, or the one that an earlier, cut tour left."""
    folder = out / "project"
    if not (out / UNFINISHED).exists():
        shutil.rmtree(folder, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
        (out / REPEATED).unlink(missing_ok=True)
        (out / UNFINISHED).write_text("A tour is running here, or was cut: run it again to finish it.\n")
    else:
        _say("An earlier tour was cut here: it goes on.")
    if not (folder / FILE).exists():
        draft = out / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, draft, ignore=shutil.ignore_patterns(".passerelle", "__pycache__", "tour-report"))
        project = load_project(draft / FILE)
        if not list((draft / project.data.inbox).glob("*")) and (draft / "deliveries.py").exists():
            _say("deliveries.py writes the deliveries")
            command = [sys.executable, "deliveries.py", project.data.inbox]
            subprocess.run(command, cwd=draft, check=True)  # noqa: S603  (the project's own script, as its notebook is)
        draft.rename(folder)
    return load_project(folder / FILE)


def _recorded(project: Project) -> tuple[set[str], set[str]]:
    """The ids that are in the ledger already: of predictions, of outcomes."""
    folder = ledger_folder(project.state, PRODUCTION)
    if not folder.exists():
        return set(), set()
    predictions, outcomes = (ask(folder, f"SELECT DISTINCT id FROM {view}") for view in ("predictions", "outcomes"))  # noqa: S608  (constants)
    return {id_ for (id_,) in predictions.rows}, {id_ for (id_,) in outcomes.rows}


def _judge(
    project: Project,
    training: Training,
    period: Period,
    replayed: Replayed,
    *,
    repeated: Path,
    seconds: float,
    now: Clock,
) -> TourReport:
    """Count what is in the ledger, compare it with the notebook's functions, and with the truth that came."""
    folder = ledger_folder(project.state, PRODUCTION)
    compact(folder, now=now())
    live = ask(folder, "SELECT id, output FROM predictions WHERE role = 'live' AND status = 'scored'").rows
    truths = {id_: json.loads(value) for id_, value in ask(folder, "SELECT id, value FROM truths").rows}
    served = dict(live)
    expected = asyncio.run(_in_one_piece(project, training, period))
    kept = [number for number, id_ in enumerate(period.ids) if id_ in served]
    outputs = np.array([served[period.ids[number]] for number in kept], dtype=np.float64)
    known = [number for number, id_ in enumerate(period.ids) if id_ in served and id_ in truths]
    truth = _truth(period, [truths[period.ids[number]] for number in known])
    judged = np.array([served[period.ids[number]] for number in known], dtype=np.float64)
    model = evaluate(project.task.kind, judged, truth, action=project.costs.action, missed=project.costs.missed)
    latencies = np.array(replayed.latencies_ms or (0.0,))
    counted = totals(folder)
    return TourReport(
        totals=Totals(
            events_sent=len(period.asked),
            predictions_in_ledger=counted.live,
            outcomes_in_ledger=counted.outcomes,
            lost=len(period.ids) - len(kept),
            duplicated=_duplicated(folder, repeated),
        ),
        parity=ServedParity(
            rows=len(kept),
            max_abs_diff=float(np.abs(outputs - expected[kept]).max()),
            flips=int((_decision(outputs) != _decision(expected[kept])).sum()),
        ),
        service=Service(
            rate=replayed.events / replayed.seconds if replayed.events else 0.0,
            p50_ms=float(np.quantile(latencies, 0.5)),
            p99_ms=float(np.quantile(latencies, 0.99)),
            errors=replayed.errors,
        ),
        model=model | _baseline(project, training, period, known, truth),
        seconds=round(seconds, 1),
    )


def _duplicated(folder: Path, repeated: Path) -> int:
    """Live records beyond the first of their id, of events that were never sent a second time."""
    question = "SELECT id, count(*) - 1 FROM all_predictions WHERE role = 'live' GROUP BY id HAVING count(*) > 1"
    sent_again = set(repeated.read_text().split("\n")) if repeated.exists() else set()
    return sum(more for id_, more in ask(folder, question).rows if id_ not in sent_again)


def _truth(period: Period, values: list[Any]) -> NDArray[Any]:
    if period.manifest.task == "regression":
        return np.array(values, dtype=np.float64)
    return positions(values, period.manifest.classes)


def _decision(outputs: NDArray[Any]) -> NDArray[Any]:
    """What one would do with the answers: the more probable class; for numbers, nothing flips."""
    return outputs[:, 0] > 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)  # noqa: PLR2004  (the even chance)


async def _in_one_piece(project: Project, training: Training, period: Period) -> NDArray[Any]:
    """The whole period through the notebook's functions in one call, in a clean process of its environment."""
    version = registry_of(project).get(training.version)
    scorer = open_scorer(
        version.path, digest=version.digest, trusted_keys=trusted(project.state), deadline_s=300, form="process"
    )
    try:
        await scorer.start()
        return await scorer.score(period.inputs)
    finally:
        await scorer.close()


def _baseline(
    project: Project, training: Training, period: Period, known: list[int], truth: NDArray[Any]
) -> dict[str, float]:
    """AUC of the best table with one column: what anybody could do without a model. Chosen on the holdout."""
    if project.task.kind != "binary":
        return {}
    handout = project.state / "runs" / training.run / HANDOUT
    rows = decode_columns((handout / f"{project.data.main}.msgpack").read_bytes())
    held_out = decode_columns(holdout_path(project, training.run).read_bytes())
    names = [name for name in period.manifest.schema.names if name in rows and name in period.main]
    labels, checks = (
        positions(part[project.task.target].tolist(), period.manifest.classes) for part in (rows, held_out)
    )
    scores = {name: auc(rates_by_value(rows[name], labels, held_out[name]), checks) for name in names}
    if not scores:
        return {}
    best = max(scores, key=lambda name: scores[name])
    answered = rates_by_value(rows[best], labels, period.main[best][known])
    return {"baseline_auc": auc(answered, truth)}


def _write(report: TourReport, project: Project, training: Training, period: Period, out: Path) -> None:
    """report.json for programs, report.html for people."""
    draft = out / "report.draft"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    draft.replace(out / "report.json")
    days, caption = _days(project, period)
    write_page(
        out / "report.html",
        "tour.html",
        title=f"Passerelle tour: {project.name}",
        heading="Every event was answered once, as the notebook would have"
        if report.holds
        else "Something does not hold: look at the figures in red",
        lead=f"{len(period.ids):,} recorded events of {project.name} went to a real endpoint, each before its outcome "
        f"was known, and {report.totals.outcomes_in_ledger:,} outcomes followed at their own time.",
        project=project.name,
        report=report,
        holdout=training.metrics,
        days=days,
        days_caption=caption,
        timeline=events(open_state(project.state)),
        folder=out / "project",
    )


def _days(project: Project, period: Period) -> tuple[Any, str]:
    """The daily mean of what was predicted and of what turned out to be true."""
    if project.task.kind == "multiclass" or not project.task.time:
        return None, ""
    folder = ledger_folder(project.state, PRODUCTION)
    judged = ask(folder, "SELECT event_at, output[1], truth FROM judged WHERE status = 'scored'").rows
    yes = period.manifest.classes[-1] if period.manifest.classes else None
    by_day: dict[Any, list[tuple[float, float]]] = {}
    for at, said, text in judged:
        value = json.loads(text)
        by_day.setdefault(at.date(), []).append((said, float(value == yes if yes is not None else value)))
    means = {day: np.mean(pairs, axis=0) for day, pairs in sorted(by_day.items())}
    lines: dict[str, Sequence[float]] = {
        "predicted": [float(mean[0]) for mean in means.values()],
        "came true": [float(mean[1]) for mean in means.values()],
    }
    return chart(lines, [f"{day:%d %b}" for day in means]), "Daily mean of the predictions and of the truth."
