"""Jobrun: what a training job does in its container: the same run of the notebook, from an input to an output.

| platform | input | output |
|---|---|---|
| any, by variable | PASSERELLE_INPUT, a folder or an address | PASSERELLE_OUTPUT |
| SageMaker | /opt/ml/input/data/input | /opt/ml/model; the reason of a failure in /opt/ml/output/failure |
| Vertex AI | PASSERELLE_INPUT | PASSERELLE_OUTPUT, else AIP_MODEL_DIR |
| Azure ML | a mounted folder, by PASSERELLE_INPUT | a mounted folder, by PASSERELLE_OUTPUT |
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from passerelle.errors import PasserelleError, SettingsError
from passerelle.loop.jobs import ASKED, ENDED, NAME, PROJECT, RUN, Ended, digests
from passerelle.names import load
from passerelle.notebook.run import EXECUTED, EXECUTION, HTML, run_notebook
from passerelle.notebook.submission import SUBMISSION
from passerelle.project.settings import FILE, load_project

#: Where SageMaker has a job's parts.
SAGEMAKER = Path("/opt/ml")
INPUT = "PASSERELLE_INPUT"
OUTPUTS = ("PASSERELLE_OUTPUT", "AIP_MODEL_DIR")
#: What SageMaker shows of a failure.
_REASON_CHARS = 1024


def run_job(variables: Mapping[str, str], *, sagemaker: Path = SAGEMAKER) -> None:
    """Run the notebook that was sent, and leave what it made, also when it failed. Raises what made it fail."""
    output = next((variables[name] for name in OUTPUTS if variables.get(name)), None) or str(sagemaker / "model")
    with tempfile.TemporaryDirectory(prefix="passerelle-job-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        ended = Ended()
        try:
            given = _input(variables, sagemaker, Path(scratch) / "input")
            ended = Ended(run=(given / NAME).read_text())
            _run(given, made, Path(scratch) / "work", variables)
        except Exception as error:
            known = isinstance(error, PasserelleError)
            kind, message = type(error).__name__ if known else "NotebookError", str(error) or repr(error)
            ended = msgspec.structs.replace(ended, kind=kind, message=message)
            if sagemaker.is_dir():
                (sagemaker / "output").mkdir(exist_ok=True)
                (sagemaker / "output" / "failure").write_text(f"{ended.kind}: {ended.message}"[:_REASON_CHARS])
            raise
        finally:
            _leave(made, msgspec.structs.replace(ended, files=digests(made)), output)


def _run(given: Path, made: Path, work: Path, variables: Mapping[str, str]) -> None:
    shutil.copytree(given, work, copy_function=shutil.copyfile)  # what is mounted may be read-only
    project = load_project(work / PROJECT / FILE)
    # The interpreter that the project names is of another machine.
    python = variables.get("PASSERELLE_PYTHON") or sys.executable
    project = msgspec.structs.replace(project, notebook=msgspec.structs.replace(project.notebook, python=python))
    folder, asked = work / RUN, work / ASKED
    try:
        run_notebook(project, folder, holdout=asked if asked.exists() else None, on_cell=_say)
    finally:
        for name in (EXECUTED, HTML, EXECUTION):
            if (folder / name).exists():
                shutil.copyfile(folder / name, made / name)
        if (folder / SUBMISSION).exists():
            shutil.copytree(folder / SUBMISSION, made / SUBMISSION)


def _input(variables: Mapping[str, str], sagemaker: Path, fetched: Path) -> Path:
    at = variables.get(INPUT) or str(sagemaker / "input" / "data" / "input")
    if "://" in at:
        load("passerelle.adapters.objectstore:get_folder")(at, fetched)
        return fetched
    if not (Path(at) / PROJECT / FILE).is_file():
        raise SettingsError(f"{at} is no input of a job: set {INPUT} to what passerelle train --target sent.")
    return Path(at)


def _leave(made: Path, ended: Ended, output: str) -> None:
    """Put what was made, then, last, how it ended: whoever finds that finds all of it."""
    if "://" not in output:
        Path(output).mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, output, dirs_exist_ok=True)
        (Path(output) / ENDED).write_bytes(msgspec.json.encode(ended))
        return
    if any(made.iterdir()):
        load("passerelle.adapters.objectstore:put_folder")(output, made)
    load("passerelle.adapters.objectstore:open_store")(output).put(ENDED, msgspec.json.encode(ended))


def _say(number: int, total: int, line: str) -> None:
    print(f"cell {number}/{total}  {line}", file=sys.stderr, flush=True)  # noqa: T201  (a job's log)


def main(*, sagemaker: Path = SAGEMAKER) -> None:
    """``python -m passerelle.loop.jobrun``: what the container's ``train`` becomes."""
    try:
        run_job(os.environ, sagemaker=sagemaker)
    except PasserelleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201  (a job's log)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
