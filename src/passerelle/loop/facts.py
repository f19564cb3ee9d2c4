"""Facts: what the project's state says about its milestones and figures; what the scoping note and CI publish."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from passerelle.errors import PasserelleError
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.rollout import PRODUCTION
from passerelle.loop.train import registry_of
from passerelle.project.note import FILE, open_questions, render
from passerelle.project.scope import Stage
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import events


def reached(project: Project) -> dict[Stage, datetime]:
    """Stage → when it was first reached. Scoped: no question of the note is open; judged: an outcome met its event."""
    found: dict[Stage, datetime] = {}
    note = project.root / FILE
    if note.exists() and open_questions(project) == 0:
        found["scoped"] = datetime.fromtimestamp(note.stat().st_mtime, UTC)
    firsts: dict[str, Stage] = {"delivery": "data", "version": "trained", "deployment": "deployed"}
    for event in events(open_state(project.state)):
        stage = firsts.get(event.kind)
        if stage is not None and (stage not in found or event.at < found[stage]):
            found[stage] = event.at
    return found | _from_ledger(project)


def figures(project: Project) -> dict[str, float]:
    """The champion's metrics on its holdout, and the largest difference between serving and the notebook."""
    registry = registry_of(project)
    version = registry.alias("champion") or next(iter(reversed(registry.versions())), None)
    if version is None:
        return {}
    report = project.state / "runs" / version.tags.get("run", "") / "report.json"
    found = dict(version.metrics)
    if report.is_file():
        found["parity_max_abs_diff"] = json.loads(report.read_text())["parity"]["max_abs_diff"]
    return found


def render_note(project: Project, *, now: datetime) -> str:
    """The scoping note as HTML, with the project's figures and the present state of its plan."""
    return render(project, reached=reached(project), figures=figures(project), now=now)


def gather_report(project: Project, out: Path, *, now: datetime) -> list[Path]:
    """Copy the newest run's executed notebook and report, and the note, into a folder; the paths written."""
    runs = sorted((project.state / "runs").glob("*/executed.html"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise PasserelleError("nothing has run yet: passerelle train, then passerelle report OUT.")
    out.mkdir(parents=True, exist_ok=True)
    names = ("executed.html", "executed.ipynb", "report.html", "report.json")
    written = [
        Path(shutil.copy(runs[-1].parent / name, out / name)) for name in names if (runs[-1].parent / name).exists()
    ]
    note = out / "note.html"
    note.write_text(render_note(project, now=now), encoding="utf-8")
    return [*written, note]


def _from_ledger(project: Project) -> dict[Stage, datetime]:
    """When production first answered an event, and when an outcome first met its prediction."""
    folder = ledger_folder(project.state, PRODUCTION)
    if not folder.exists():
        return {}
    questions: dict[Stage, str] = {
        "served": "SELECT min(received_at) FROM predictions",
        "judged": "SELECT min(t.received_at) FROM predictions p JOIN truths t USING (id)",
    }
    found = {stage: ask(folder, question).rows[0][0] for stage, question in questions.items()}
    return {stage: moment for stage, moment in found.items() if moment is not None}
