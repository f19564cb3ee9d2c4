"""Train: run the notebook on a snapshot, prove that serving equals it, pass the gate, seal, sign and register.

Found by key before it is made: the same notebook, settings and snapshot give the version that is there already.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.bundle.keys import own_key, public_hex, trust, trusted
from passerelle.bundle.manifest import Provenance
from passerelle.bundle.opening import open_scorer
from passerelle.bundle.parity import Parity, compare, require
from passerelle.bundle.profile import profile
from passerelle.bundle.seal import Bundle, seal
from passerelle.data.handout import count_mature, write_handout
from passerelle.data.table import snapshot
from passerelle.decoding import prepared
from passerelle.errors import (
    BundleError,
    DataError,
    GateError,
    KilledError,
    NotebookError,
    ParityError,
    PasserelleError,
    SchemaError,
    ScoringError,
    SettingsError,
    SubmissionError,
)
from passerelle.loop.columns import refuse_unknown_columns
from passerelle.loop.forms import write_form
from passerelle.loop.gate import GateResult
from passerelle.loop.jobs import Runner
from passerelle.loop.judging import Tables, measure, pass_gate
from passerelle.loop.provenance import code_digest, code_version, file_digest, run_key
from passerelle.loop.report import write_page
from passerelle.loop.rollout import reconcile
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
from passerelle.registry.versions import Registry
from passerelle.schema import TOLERANCE, decode_columns
from passerelle.state import runs
from passerelle.state.database import open_state, sqlite_url
from passerelle.state.lease import lease
from passerelle.state.timeline import Event, record_once

#: The exit code of what a check refused.
REFUSED = GateError.exit_code


#: What the same data and code would come to again, unless a process was killed from outside.
_LASTING = (
    BundleError,
    DataError,
    GateError,
    NotebookError,
    ParityError,
    SchemaError,
    ScoringError,
    SettingsError,
    SubmissionError,
)


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
        lines = [
            f"Version {self.version}" + ("." if self.made else ", which is there already: nothing has changed since.")
        ]
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


def is_lasting(error: BaseException) -> bool:
    """Would the same data and code fail by this again? Not by a process that was killed, or a disk that is full."""
    return isinstance(error, _LASTING) and not isinstance(error, KilledError)


def registry_of(project: Project) -> Registry:
    """The project's registry: its own SQLite file, or the MLflow server that PASSERELLE_REGISTRY_URI names."""
    uri = os.environ.get("PASSERELLE_REGISTRY_URI") or sqlite_url(project.state / "registry.db")
    return Registry(project.name, uri, bundles=project.state / "bundles")


def train(
    project: Project,
    *,
    now: datetime,
    on_step: Callable[[int, int, str], None] | None = None,
    again: bool = False,
    key: Ed25519PrivateKey | None = None,
    force_gate: bool = False,
    cause: str | None = None,
    runner: Runner | None = None,
) -> Training:
    """Make a version of the project's notebook and its accepted data, signed with ``key`` (the user's own by default).

    ``force_gate`` is a switch of tests: what the gate refuses is made all the same, and says so. ``cause`` is kept with
    the run: which training of the loop it is of. ``runner`` runs the notebook: as a job (jobs.run_as_job); None: here.

    Raises NotebookError if a cell fails, SubmissionError if what it submitted cannot be served, ParityError if serving
    does not reproduce it, GateError if it is plainly worse than the champion, KilledError if a process of the run is
    killed from outside; no version is made then, and the run's folder keeps the executed notebook and a report. The
    run's details say whether the failure is ``lasting``, and how often the run was killed (``kills``).
    """
    registry = registry_of(project)
    engine = open_state(project.state)
    with lease(project.state, "train"):
        refuse_unknown_columns(project)
        reconcile(project, registry)
        taken = snapshot(project)
        draft = project.state / "runs" / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        handout = write_handout(project, taken, now=now, folder=draft, holdout=holdout_path(project, draft.name))
        run = run_key(project, taken, handout.notes) + (f"-{now:%Y%m%dT%H%M%S%f}" if again else "")
        details = {
            "snapshot": taken.tables,
            "code": code_digest(project),
            "outcomes": count_mature(project, taken, now=now),
            "cause": cause,
        }
        found = registry.find(run)
        if found is not None:
            left = runs.get(engine, run)
            if left is not None and left.status != "sealed":  # an attempt died after it had registered
                details |= {"version": found.number}
                runs.finish(engine, run, at=now, status="sealed", details=details)
                reconcile(project, registry)
            return Training(version=found.number, digest=found.digest, run=run, made=False, metrics=found.metrics)
        folder = draft.with_name(run)
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier, killed attempt left
        draft.rename(folder)
        holdout_path(project, draft.name).replace(holdout_path(project, run))
        before = runs.get(engine, run)
        kills = 0 if before is None else before.details.get("kills", 0)
        runs.begin(engine, run, at=now)
        begun = f"the notebook runs on {_shown(taken.tables)}"
        record_once(engine, Event(at=now, kind="run", subject=run, sentence=begun))
        try:
            training = _train(
                project,
                registry,
                handout,
                run=run,
                now=now,
                on_step=on_step,
                key=signing_key(project, key),
                force_gate=force_gate,
                runner=runner or run_notebook,
            )
        except BaseException as error:
            refused = isinstance(error, PasserelleError) and error.exit_code == REFUSED
            status: runs.Status = "refused" if refused else "failed"
            kills += isinstance(error, KilledError)
            reason = {"reason": str(error) or repr(error), "lasting": is_lasting(error), "kills": kills}
            runs.finish(engine, run, at=now, status=status, details=details | reason)
            sentence = f"no version was made: {error or type(error).__name__}"
            record_once(engine, Event(at=now, kind="run", subject=run, sentence=sentence))
            raise
        reached = {name: value for name, value in training.metrics.items() if math.isfinite(value)}
        details |= {"version": training.version, "metrics": reached}
        runs.finish(engine, run, at=now, status="sealed", details=details)
        reconcile(project, registry)
        return training


def holdout_path(project: Project, run: str) -> Path:
    """Where a run's held-out rows are kept, with their target: outside of what the run is given."""
    return project.state / "holdouts" / f"{run}.msgpack"


def signing_key(project: Project, key: Ed25519PrivateKey | None) -> Ed25519PrivateKey:
    """The key given, or the user's own; its public half is trusted by the project from now on."""
    key = key or own_key()
    trust(project.state, public_hex(key))
    return key


def _train(
    project: Project,
    registry: Registry,
    handout: Handout,
    *,
    run: str,
    now: datetime,
    on_step: Callable[[int, int, str], None] | None,
    key: Ed25519PrivateKey,
    force_gate: bool,
    runner: Runner,
) -> Training:
    folder = project.state / "runs" / run
    kept = holdout_path(project, run)
    execution = runner(project, folder, holdout=kept, on_cell=on_step)
    submission = folder / SUBMISSION
    submitted = msgspec.json.decode((submission / "submission.json").read_bytes(), type=prepared(Submission))
    answers = read_answers(submission / HOLDOUT)
    golden = read_answers(submission / GOLDEN)
    form, forms = write_form(submission, submitted, project, [golden, answers], into=folder / "inline")
    provenance = Provenance(
        run=run,
        notebook=project.notebook.path,
        notebook_sha256=file_digest(project.root / project.notebook.path),
        code_version=code_version(project.root),
        snapshot=handout.snapshot,
        created_at=now,
    )
    tables = held_out_tables(folder, kept, handout)
    rows = tables[handout.main][1]
    keys = answers.truth
    if set(keys) != set(handout.key) or any(not np.array_equal(keys[name], rows[name]) for name in keys):
        raise SubmissionError("the notebook did not answer the rows that were held out: train again.")
    metrics = measure(project, answers.outputs, rows[project.task.target], submitted.classes)
    bundle = seal(
        submission,
        into=project.state / "bundles",
        project=project,
        provenance=provenance,
        metrics=metrics,
        key=key,
        profile=profile(answers.inputs, answers.outputs, submitted.schema, privacy=project.privacy),
        inline=form,
    )
    try:
        learnt = decode_columns((folder / HANDOUT / f"{handout.main}.msgpack").read_bytes())[project.task.target]
        with ThreadPoolExecutor(max_workers=1) as beside:  # each waits for processes of its own
            judged = beside.submit(
                pass_gate, project, registry, metrics, tables, learnt=learnt, classes=submitted.classes
            )
            parity = asyncio.run(_parity(bundle, answers, project))
        require(parity, tolerance=TOLERANCE)
        gate = judged.result()
        forced = force_gate and not gate.passed
        if forced:
            told = f"{gate.sentence} The version was made all the same: force_gate, a switch of tests, was set."
            gate = msgspec.structs.replace(gate, sentence=told)
            record_once(open_state(project.state), Event(at=now, kind="gate", subject=run, sentence=told))
        report = folder / "report.html"
        packages = f"{len(submitted.packages)} packages, {submitted.platform}"
        origin = {
            "notebook": f"{project.notebook.path}, sha256 {provenance.notebook_sha256}",
            "executed notebook": f"{execution.html.name}, {execution.cells} cells in {execution.seconds:.0f} s",
            "code": provenance.code_version or "not in a git checkout",
            "snapshot": _shown(handout.snapshot),
            "environment": f"Python {submitted.python_version}, {packages}",
            "bundle": bundle.digest,
            "forms": forms,
        }
        _write_report(
            report,
            project,
            submitted,
            handout,
            gate=gate,
            forced=forced,
            parity=parity,
            metrics=metrics,
            origin=origin,
        )
        if not gate.passed and not forced:
            raise GateError(f"{gate.sentence} No version was made; see {report}.")
    except PasserelleError:
        shutil.rmtree(bundle.path)  # it was signed to be tried; what was refused does not stay signed
        raise
    version = registry.register(
        bundle, key=run, tags={"run": run} | ({"gate": "forced"} if forced else {}), metrics=metrics
    )
    return Training(
        version=version.number,
        digest=bundle.digest,
        run=run,
        made=True,
        metrics=metrics,
        gate=gate,
        parity=parity,
        forms=forms,
        report=report,
    )


def held_out_tables(folder: Path, kept: Path, handout: Handout) -> Tables:
    """A handout's tables, the main one's rows being those that were held out."""
    tables = {
        name: (schema, decode_columns((folder / HANDOUT / f"{name}.msgpack").read_bytes()))
        for name, schema in handout.tables.items()
        if name != handout.main
    }
    tables[handout.main] = (handout.tables[handout.main], decode_columns(kept.read_bytes()))
    return tables


def _write_report(
    path: Path,
    project: Project,
    submitted: Submission,
    handout: Handout,
    *,
    gate: GateResult,
    forced: bool,
    parity: Parity,
    metrics: dict[str, float],
    origin: dict[str, str],
) -> None:
    """report.html for people and report.json for programs, beside the executed notebook."""
    made = ", and made all the same" if forced else ""
    write_page(
        path,
        "run.html",
        title=f"{project.name}: a run and its gate",
        heading="The candidate passed the gate" if gate.passed else f"The candidate was refused at the gate{made}",
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
    report = {
        "gate": gate,
        "forced": forced,
        "parity": parity,
        "metrics": metrics,
        "proofs": submitted.proofs,
        "origin": origin,
    }
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


def _shown(tables: dict[str, int]) -> str:
    return ", ".join(f"{table} at version {number}" for table, number in tables.items())
