"""Report: what the lived period comes to: counts, parity, each month's trial, what the loop was worth, the alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from passerelle.bundle.parity import differences
from passerelle.clock import system_clock
from passerelle.ledger.compaction import compact
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask, totals
from passerelle.loop.recorded import first_moment
from passerelle.loop.report import chart, write_page
from passerelle.loop.rollout import PRODUCTION
from passerelle.metrics import auc, evaluate, row_losses
from passerelle.monitoring.alerts import find_alerts
from passerelle.monitoring.windows import read_windows
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import events
from passerelle.tour.figures import Page, ServedParity, Totals, TourReport, Worth
from passerelle.tour.measured import repeated_ids, summed
from passerelle.tour.months import months_of
from passerelle.tour.script import Script
from passerelle.tour.setting import Delivery
from passerelle.tour.stages import Stage, join, read_stage, stage_path
from passerelle.trial.trials import history
from passerelle.trial.words import LOSSES

_DOUBLED = "SELECT id, count(*) - 1 FROM all_predictions WHERE role = 'live' GROUP BY id HAVING count(*) > 1"


def judge(
    project: Project, script: Script, stages: Sequence[Delivery], out: Path, *, instant: float | None
) -> TourReport:
    """Count what is in the ledger, compare it with the notebook's functions and with the truth that came.

    ``instant``: the mean loss without trials, computed apart. Time and memory are for the caller to say.
    """
    folder = ledger_folder(project.state, PRODUCTION)
    compact(folder, now=system_clock())
    lived = [read_stage(stage_path(out, stage.stamp)) for stage in stages[1:]]
    year = join(lived)
    begins = [first_moment(project, stage.files) for stage in stages[1:]]
    counted = totals(folder)
    answered = ~np.isnan(year.served).any(axis=1)
    different = differences(year.served[answered], year.expected[answered])
    numbers = project.task.kind == "regression"
    value = _worth(project, script, stages, lived, instant=instant)
    sent_again = repeated_ids(out)
    found = find_alerts(open_state(project.state), PRODUCTION)
    fields = [field.name for field in msgspec.structs.fields(Page)]
    return TourReport(
        totals=Totals(
            events_sent=len(year.served),
            predictions_in_ledger=counted.live,
            outcomes_in_ledger=counted.outcomes,
            lost=int((~answered).sum()),
            duplicated=doubled(folder, sent_again),
            shadow_scores=counted.shadow,
            sent_again=len(sent_again),
        ),
        parity=ServedParity(
            rows=int(answered.sum()),
            max_abs_diff=float(different.max(initial=0.0)),
            flips=0 if numbers else int((_decision(year.served) != _decision(year.expected))[answered].sum()),
        ),
        service=summed(out),
        model=_model(project, year),
        months=months_of(project, script, [stage.stamp for stage in stages[1:]], begins, ledger=folder),
        value=value,
        gain_kept=value.kept if value else None,
        alerts=tuple(Page(**{name: getattr(one, name) for name in fields}) for one in found),
        seconds=0.0,
    )


def doubled(ledger: Path, sent_again: set[str]) -> int:
    """How many live records are there beside the first of their id, of events that were sent once."""
    return sum(more for id_, more in ask(ledger, _DOUBLED).rows if id_ not in sent_again)


def _decision(outputs: NDArray[Any]) -> NDArray[Any]:
    """What one would do with the answers: the more probable class."""
    return outputs[:, 0] > 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)  # noqa: PLR2004  (the even chance)


def _model(project: Project, year: Stage) -> dict[str, float]:
    known = ~np.isnan(year.truth) & ~np.isnan(year.served).any(axis=1)
    truth = _typed(project, year.truth[known])
    costs = project.assumed_costs
    found = evaluate(project.task.kind, year.served[known], truth, action=costs.action, missed=costs.missed)
    if len(year.baseline) == len(year.truth):
        found["baseline_auc"] = auc(year.baseline[known], truth)
    return found


def _worth(
    project: Project, script: Script, stages: Sequence[Delivery], lived: Sequence[Stage], *, instant: float | None
) -> Worth | None:
    """Mean losses from a period on; None if the script asks for none, or the tour was too short for it."""
    if script.value is None:
        return None
    counted = [stage for delivery, stage in zip(stages[1:], lived, strict=True) if delivery.stamp >= script.value.since]
    if not counted:
        return None
    some = join(counted)
    known = ~np.isnan(some.truth)
    truth = _typed(project, some.truth[known])
    loss = "squared" if project.task.kind == "regression" else "log_loss"
    return Worth(
        since=script.value.since,
        events=int(known.sum()),
        frozen=float(row_losses(loss, some.frozen[known], truth).mean()),
        loop=float(row_losses(loss, some.served[known], truth).mean()),
        instant=instant,
    )


def _typed(project: Project, truth: NDArray[Any]) -> NDArray[Any]:
    return truth if project.task.kind == "regression" else truth.astype(np.int64)


def write_report(report: TourReport, project: Project, out: Path) -> None:
    """report.json for programs, report.html for people."""
    draft = out / "report.draft"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    draft.replace(out / "report.json")
    engine = open_state(project.state)
    days = read_windows(engine, PRODUCTION, "performance")
    series = [(window.start, window.value.get("loss")) for window in days]
    drawn = [(start, value) for start, value in series if value is not None]
    write_page(
        out / "report.html",
        "tour.html",
        title=f"Passerelle tour: {project.name}",
        heading=_heading(report),
        lead=f"{report.totals.events_sent:,} recorded events of {project.name} went to a real endpoint, each before "
        f"its outcome was known; {report.totals.outcomes_in_ledger:,} outcomes followed at their own time. At each "
        "delivery the loop retrained, and tried the new version against the champion before it let it answer.",
        project=project.name,
        report=report,
        days=_days(report, drawn) if drawn else None,
        loss=LOSSES[project.loss],
        judged=any(window.value.get("in_control") is not None for window in days),
        trials=history(engine, PRODUCTION),
        timeline=events(engine),
        folder=out / "project",
    )


def _days(report: TourReport, drawn: Sequence[tuple[datetime, float]]) -> Markup:
    """The loss by day, with the days that somebody was called for."""
    called = [(one.first_day, one.last_day or one.first_day) for one in report.alerts if one.level == "page"]
    days = [
        number
        for number, (start, _) in enumerate(drawn)
        if any(first is not None and last is not None and first <= start <= last for first, last in called)
    ]
    return chart({"loss": [value for _, value in drawn]}, [f"{start:%d %b}" for start, _ in drawn], marked=days)


def _heading(report: TourReport) -> str:
    if not report.holds:
        return "Something does not hold: look at the figures in red"
    promoted = sum(month.promoted for month in report.months)
    tried = sum(month.challenger is not None for month in report.months)
    worth = f"{promoted} of {tried} challengers promoted" if tried else "no challenger was tried"
    return f"Every event was answered once, as the notebook would have; {worth}"
