"""Adopt: an existing MLflow model becomes a version, judged on the same held-out rows as a trained one."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import msgspec

from passerelle.bundle.importing import import_model
from passerelle.bundle.seal import Bundle
from passerelle.data.handout import write_handout
from passerelle.data.table import snapshot
from passerelle.errors import GateError, PasserelleError
from passerelle.loop.gate import GateResult
from passerelle.loop.judging import measure_bundle, pass_gate
from passerelle.loop.rollout import reconcile
from passerelle.loop.train import Training, held_out_tables, registry_of, signing_key
from passerelle.notebook.run import notebook_python
from passerelle.notebook.submission import HANDOUT
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry
from passerelle.schema import decode_columns
from passerelle.state.lease import lease


def import_version(project: Project, source: str, *, trust: bool, now: datetime) -> Training:
    """Make a version of an MLflow model: a registry's ``models:/name/3``, or a model's folder.

    Where data have been accepted it is measured on the holdout and must pass the gate, as a trained candidate must.
    The same model is found again, not imported twice. Raises BundleError without ``trust``: loading it runs its code.
    """
    registry = registry_of(project)
    interpreter = msgspec.structs.replace(project.notebook, python=notebook_python(project))
    with lease(project.state, "train"):
        reconcile(project, registry)
        adopted = msgspec.structs.replace(project, notebook=interpreter)
        bundle = import_model(adopted, source, sample=None, trust=trust, key=signing_key(project, None), now=now)
        manifest = bundle.manifest
        same = msgspec.json.encode((manifest.schema, manifest.classes, manifest.files), order="deterministic")
        run = f"import-{hashlib.sha256(same).hexdigest()[:20]}"
        found = registry.find(run)
        if found is not None:
            if found.digest != bundle.digest:
                shutil.rmtree(bundle.path)
            return Training(version=found.number, digest=found.digest, run=run, made=False, metrics=found.metrics)
        try:
            metrics, gate = _judged(project, registry, bundle, now)
            if gate is not None and not gate.passed:
                raise GateError(f"{gate.sentence} No version was made.")
        except PasserelleError:
            shutil.rmtree(bundle.path)
            raise
        version = registry.register(bundle, key=run, tags={"run": run, "imported_from": source}, metrics=metrics)
        reconcile(project, registry)
    return Training(
        version=version.number,
        digest=bundle.digest,
        run=run,
        made=True,
        metrics=metrics,
        gate=gate,
        forms="by the model's own process: it was imported",
    )


def _judged(
    project: Project, registry: Registry, bundle: Bundle, now: datetime
) -> tuple[dict[str, float], GateResult | None]:
    """What the model reaches on the holdout, and the gate's word; nothing where no data have been accepted."""
    taken = snapshot(project)
    if not {project.data.main, project.data.outcomes} <= taken.tables.keys():
        return {}, None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        kept = folder / "holdout.msgpack"
        handout = write_handout(project, taken, now=now, folder=folder, holdout=kept)
        tables = held_out_tables(folder, kept, handout)
        metrics = measure_bundle(project, bundle.path, bundle.digest, tables)
        learnt = decode_columns((folder / HANDOUT / f"{handout.main}.msgpack").read_bytes())[project.task.target]
        classes = bundle.manifest.classes
        return metrics, pass_gate(project, registry, metrics, tables, learnt=learnt, classes=classes)
