"""Train: run the notebook on a snapshot, prove that serving equals it, pass the gate, seal, sign and register.

Found by key before it is made: the same notebook, settings and snapshot give the version that is there already.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from passerelle.bundle.events import event_rows
from passerelle.bundle.importing import import_model
from passerelle.bundle.keys import own_key, public_hex, trust, trusted
from passerelle.bundle.manifest import Provenance
from passerelle.bundle.opening import open_scorer
from passerelle.bundle.parity import Parity, compare, require
from passerelle.bundle.profile import profile
from passerelle.bundle.seal import Bundle, seal
from passerelle.data.handout import write_handout
from passerelle.data.table import Snapshot, snapshot
from passerelle.errors import GateError, PasserelleError, SettingsError, SubmissionError
from passerelle.loop.forms import write_form
from passerelle.loop.gate import GateResult, judge
from passerelle.loop.report import write_page
from passerelle.metrics import evaluate, positions
from passerelle.notebook.run import run_notebook
from passerelle.notebook.submission import (
    GOLDEN,
    HANDOUT,
    HOLDOUT,
    SUBMISSION,
    Answers,
    Handout,
    Submission,
    read_answers,
)
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry, Version
from passerelle.schema import Columns, count, decode_columns, take
from passerelle.state import runs
from passerelle.state.database import open_state
from passerelle.state.lease import lease
from passerelle.state.timeline import Event, record

#: A process scorer may differ from the notebook by this much (relative to numbers above 1): rounding of the same sums.
TOLERANCE = 1e-12
ROWS_AT_A_TIME = 1000


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What a training made, or found made."""

    version: int
    digest: str
    run: str
    #: False if the same notebook had run on the same snapshot before.
    made: bool
    metrics: dict[str, float]
    gate: GateResult | None = None
    parity: Parity | None = None
    #: "inline, process", or why there is no compiled form.
    forms: str = "process"
    report: Path | None = None

    def lines(self) -> list[str]:
        """The training, for a person."""
        lines = [f"Version {self.version}" + ("." if self.made else " was made of this notebook and this data before.")]
        if self.parity:
            same = f"{self.parity.rows:,} rows served, largest difference {self.parity.max_abs_diff:.3g}"
            lines.append(f"  parity  {same}, {self.parity.flips} flips")
        if self.gate:
            lines.append(f"  gate    {self.gate.sentence}")
        if self.made:
            lines.append(f"  served  {self.forms}")
        if self.report:
            lines.append(f"  report  {self.report}")
        lines.append(f"Next: passerelle deploy {self.version}")
        return lines


def registry_of(project: Project) -> Registry:
    """The project's registry: its own SQLite file, or the MLflow server that PASSERELLE_REGISTRY_URI names."""
    uri = os.environ.get("PASSERELLE_REGISTRY_URI") or f"sqlite:///{project.state / 'registry.db'}"
    return Registry(project.name, uri)


def train(
    project: Project, *, now: datetime, on_step: Callable[[int, int, str], None] | None = None, again: bool = False
) -> Training:
    """Make a version of the project's notebook and its accepted data.

    Raises NotebookError if a cell fails, SubmissionError if what it submitted cannot be served, ParityError if serving
    does not reproduce it, GateError if it is plainly worse than the champion; no version is made then, and the run's
    folder keeps the executed notebook and a report.
    """
    registry = registry_of(project)
    engine = open_state(project.state)
    with lease(project.state, "train"):
        taken = snapshot(project)
        key = _key(project, taken) + (f"-{now:%Y%m%dT%H%M%S%f}" if again else "")
        found = registry.find(key)
        if found is not None:
            return Training(version=found.number, digest=found.digest, run=key, made=False, metrics=found.metrics)
        runs.begin(engine, key, at=now)
        record(engine, Event(at=now, kind="run", subject=key, sentence=f"the notebook runs on {_shown(taken)}"))
        try:
            training = _train(project, registry, taken, key=key, now=now, on_step=on_step)
        except PasserelleError as error:
            status: runs.Status = "refused" if error.exit_code == 3 else "failed"  # noqa: PLR2004  (refused by a check)
            runs.finish(engine, key, at=now, status=status, details={"reason": str(error)})
            record(engine, Event(at=now, kind="run", subject=key, sentence=f"no version was made: {error}"))
            raise
        runs.finish(engine, key, at=now, status="sealed", details={"version": training.version})
        sentence = f"version {training.version} was made"
        record(engine, Event(at=now, kind="version", subject=str(training.version), sentence=sentence))
        return training


def import_version(project: Project, source: str, *, trust: bool, now: datetime) -> Training:
    """Make a version of an existing MLflow model. Raises BundleError without ``trust``: loading it runs its code."""
    key = _signing_key(project)
    bundle = import_model(project, source, sample=None, trust=trust, key=key, now=now)
    registry = registry_of(project)
    run = f"import:{bundle.digest}"
    found = registry.find(run)
    version = found or registry.register(bundle, key=run, tags={"imported_from": source}, metrics={})
    if found is None:
        sentence = f"version {version.number} was imported from {source}"
        record(open_state(project.state), Event(at=now, kind="version", subject=str(version.number), sentence=sentence))
    return Training(version=version.number, digest=bundle.digest, run=run, made=found is None, metrics={})


def _train(
    project: Project,
    registry: Registry,
    taken: Snapshot,
    *,
    key: str,
    now: datetime,
    on_step: Callable[[int, int, str], None] | None,
) -> Training:
    folder = project.state / "runs" / key
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier, killed attempt left
    held_out = project.state / "holdouts" / f"{key}.msgpack"
    handout = write_handout(project, taken, now=now, folder=folder, holdout=held_out)
    execution = run_notebook(project, folder, holdout=held_out, on_cell=on_step)
    submission = folder / SUBMISSION
    submitted = msgspec.json.decode((submission / "submission.json").read_bytes(), type=Submission)
    holdout = read_answers(submission / HOLDOUT)
    golden = read_answers(submission / GOLDEN)
    form, forms = write_form(submission, submitted, project, [golden, holdout], into=folder / "inline")
    signing = _signing_key(project)
    provenance = Provenance(
        run=key,
        notebook=project.notebook.path,
        notebook_sha256=_sha256(project.root / project.notebook.path),
        code_version=_code_version(project.root),
        snapshot=taken.tables,
        created_at=now,
    )
    held = decode_columns(held_out.read_bytes())
    keys = holdout.truth
    if set(keys) != set(handout.key) or any(not np.array_equal(keys[name], held[name]) for name in keys):
        raise SubmissionError("the notebook did not answer the rows that were held out: train again.")
    truth = _positions(project, held[project.task.target], submitted.classes)
    metrics = _metrics(project, holdout.outputs, truth)
    bundle = seal(
        submission,
        into=project.state / "bundles",
        project=project,
        provenance=provenance,
        metrics=metrics,
        key=signing,
        profile=profile(holdout.inputs, holdout.outputs, submitted.schema, privacy=project.privacy),
        inline=form,
    )
    parity = asyncio.run(_parity(bundle, holdout, project))
    require(parity, tolerance=TOLERANCE)
    gate = judge(
        project.metric,
        candidate=metrics[project.metric],
        champion=_champion_value(project, registry, handout, folder, held=held, truth=truth),
        margin=project.gate.margin,
        refuse_above=project.gate.refuse_above,
        rows=len(truth),
    )
    report = folder / "report.html"
    origin = {
        "notebook": f"{project.notebook.path}, sha256 {provenance.notebook_sha256}",
        "executed notebook": f"{execution.html.name}, {execution.cells} cells in {execution.seconds:.0f} s",
        "code": provenance.code_version or "not in a git checkout",
        "snapshot": _shown(taken),
        "environment": f"Python {submitted.python_version}, {len(submitted.packages)} packages, {submitted.platform}",
        "bundle": bundle.digest,
        "forms": forms,
    }
    _write_report(report, project, submitted, handout, gate=gate, parity=parity, metrics=metrics, origin=origin)
    if not gate.passed:
        raise GateError(f"{gate.sentence} No version was made; see {report}.")
    version = registry.register(bundle, key=key, tags={"run": key}, metrics=metrics)
    return Training(
        version=version.number,
        digest=bundle.digest,
        run=key,
        made=True,
        metrics=metrics,
        gate=gate,
        parity=parity,
        forms=forms,
        report=report,
    )


def _write_report(
    path: Path,
    project: Project,
    submitted: Submission,
    handout: Handout,
    *,
    gate: GateResult,
    parity: Parity,
    metrics: dict[str, float],
    origin: dict[str, str],
) -> None:
    """report.html for people and report.json for programs, beside the executed notebook."""
    write_page(
        path,
        "run.html",
        title=f"{project.name}: a run and its gate",
        heading="The candidate passed the gate" if gate.passed else "The candidate was refused at the gate",
        project=project.name,
        run=path.parent.name,
        passed=gate.passed,
        sentence=gate.sentence,
        metrics=metrics,
        parities={"the holdout: singly, in sevens, shuffled, together": parity},
        proofs=submitted.proofs,
        origin=origin,
        columns=submitted.schema.columns,
        notes=handout.notes,
    )
    report = {"gate": gate, "parity": parity, "metrics": metrics, "proofs": submitted.proofs, "origin": origin}
    path.with_suffix(".json").write_bytes(msgspec.json.encode(report))


async def _parity(bundle: Bundle, answers: Answers, project: Project) -> Parity:
    """The rows, served by the process scorer, against what the notebook itself answered."""
    scorer = open_scorer(
        bundle.path,
        digest=bundle.digest,
        trusted_keys=trusted(project.state),
        deadline_s=project.serving.deadline_ms / 1000,
        form="process",
    )
    try:
        await scorer.start()
        return await compare(scorer, answers, task=project.task.kind)
    finally:
        await scorer.close()


def _champion_value(
    project: Project, registry: Registry, handout: Handout, folder: Path, *, held: Columns, truth: NDArray[Any]
) -> float | None:
    """What the champion reaches on the same held-out rows, by its own event rows and its own scorer."""
    champion = registry.alias("champion")
    if champion is None:
        return None
    tables = {name: (schema, _table(folder, name)) for name, schema in handout.tables.items() if name != handout.main}
    tables[handout.main] = (handout.tables[handout.main], held)
    keys = trusted(project.state)
    inputs = event_rows(champion.path, digest=champion.digest, trusted_keys=keys, tables=tables, main=handout.main)
    outputs = asyncio.run(_score(champion, inputs, project))
    return _metrics(project, outputs, truth)[project.metric]


async def _score(version: Version, inputs: Columns, project: Project) -> NDArray[Any]:
    scorer = open_scorer(
        version.path,
        digest=version.digest,
        trusted_keys=trusted(project.state),
        deadline_s=project.serving.deadline_ms / 1000,
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


def _table(folder: Path, name: str) -> Columns:
    return decode_columns((folder / HANDOUT / f"{name}.msgpack").read_bytes())


def _positions(project: Project, truth: NDArray[Any], classes: tuple[Any, ...]) -> NDArray[Any]:
    """The truth as metrics take it: positions in the classes, or numbers."""
    if project.task.kind == "regression":
        return truth.astype("float64")
    return positions(truth.tolist(), classes)


def _metrics(project: Project, outputs: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Every metric of the task that is a number on these rows."""
    found = evaluate(project.task.kind, outputs, truth, action=project.costs.action, missed=project.costs.missed)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _signing_key(project: Project) -> Ed25519PrivateKey:
    """The user's key, its public half trusted by the project."""
    key = own_key()
    trust(project.state, public_hex(key))
    return key


def _key(project: Project, taken: Snapshot) -> str:
    """The same for the same notebook, settings that training reads, and data."""
    parts = (_sha256(project.root / project.notebook.path), project.notebook, project.task, project.data, taken.tables)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:20]


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise SettingsError(f"there is no notebook {path}: correct notebook.path in passerelle.toml.") from error


def _code_version(root: Path) -> str | None:
    """The commit of the project's code, "+changed" if the checkout has changes; None outside git."""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changed" if _git(root, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    git = shutil.which("git") or "git"
    return subprocess.run([git, "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603  (our own arguments)


def _shown(taken: Snapshot) -> str:
    return ", ".join(f"{table} at version {number}" for table, number in taken.tables.items())
