"""Jobs: the notebook, run by a cloud: what it needs is sent, the job is awaited, and what it made is fetched.

| below ``<store>/runs/<project>/<run>/`` | what |
|---|---|
| input/project/ | passerelle.toml, the notebook, and the modules that it may import |
| input/run/handout/ | the rows to learn from |
| input/asked.msgpack | the held-out rows, without their target: what is to be answered |
| output/ | the executed copy and the submission; job.json last, which says how it ended (loop.jobrun) |

Who waits may die: the job has the run's key for its name, is found by it, and is not started twice. Parity, gate, seal
and signature stay here: a cloud sees neither the truth of the holdout nor a key.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Protocol

import msgspec

from passerelle import errors
from passerelle.deployment.package import unpack
from passerelle.deployment.target import Job, Jobs, JobStatus
from passerelle.errors import NotebookError, PasserelleError
from passerelle.loop.provenance import module_paths
from passerelle.names import load
from passerelle.notebook.run import EXECUTED, EXECUTION, HTML, Execution, OnCell, notebook_python
from passerelle.notebook.source import read_source
from passerelle.notebook.submission import HANDOUT, SUBMISSION, Submission
from passerelle.project.settings import FILE, Project
from passerelle.schema import decode_columns, encode_columns

#: Of a job's input: the project's files, the run's folder, the rows to answer.
PROJECT, RUN, ASKED = "project", "run", "asked.msgpack"
#: Of its output: how it ended; put last.
ENDED = "job.json"
#: Where SageMaker packs a job's output, and how deep below the job's folder.
ARCHIVE = "model.tar.gz"

#: For a machine to be found and an image to be fetched, besides the cells' own time.
_MACHINE_S = 1800
_STEPS = 3


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended, in its own words."""

    #: The class of the error and its message; None: it did what was asked.
    kind: str | None = None
    message: str = ""


class Runner(Protocol):
    """Runs a project's notebook: notebook.run.run_notebook here, or a job."""

    def __call__(
        self, project: Project, folder: Path, *, holdout: Path | None = None, on_cell: OnCell | None = None
    ) -> Execution:
        """As run_notebook: the submission and the executed copy are in ``folder`` then; errors as it raises them."""


def run_as_job(jobs: Jobs, store: str, *, poll_s: float = 10.0) -> Runner:
    """A runner that has the notebook run by ``jobs``, by way of a folder of ``store``.

    It raises as run_notebook does, for the job says what went wrong; TargetError and StoreError if the cloud or the
    store refuses. A job that has failed has failed: ``passerelle train --again`` makes another.
    """

    def run(project: Project, folder: Path, *, holdout: Path | None = None, on_cell: OnCell | None = None) -> Execution:
        say = on_cell or (lambda _number, _of, _line: None)
        at = f"{store.rstrip('/')}/runs/{project.name}/{folder.name}"
        job = Job(name=folder.name, input=f"{at}/input", output=f"{at}/output", timeout_s=_timeout_s(project))
        if jobs.status(job.name).state == "absent":
            say(1, _STEPS, f"what the notebook needs is sent to {job.input}")
            _send(project, folder, holdout, job.input)
            jobs.start(job)
        status = _await(jobs, job, say, poll_s)
        say(3, _STEPS, f"what the job made is fetched from {job.output}")
        with tempfile.TemporaryDirectory(prefix="passerelle-job-") as scratch:
            return _take(_fetch(job, status, Path(scratch)), project, folder)

    return run


def _send(project: Project, folder: Path, holdout: Path | None, at: str) -> None:
    with tempfile.TemporaryDirectory(prefix="passerelle-job-") as scratch:
        staged = Path(scratch)
        own = {project.root / FILE, project.root / project.notebook.path, *module_paths(project.root)}
        for path in sorted(own):
            target = staged / PROJECT / path.relative_to(project.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        shutil.copytree(folder / HANDOUT, staged / RUN / HANDOUT)
        if holdout is not None:
            held = decode_columns(holdout.read_bytes())
            asked = {name: values for name, values in held.items() if name != project.task.target}
            (staged / ASKED).write_bytes(encode_columns(asked))
        load("passerelle.adapters.objectstore:put_folder")(at, staged)


def _await(jobs: Jobs, job: Job, say: OnCell, poll_s: float) -> JobStatus:
    started = time.monotonic()
    try:
        while (status := jobs.status(job.name)).state == "running":
            waited = time.monotonic() - started
            if waited > job.timeout_s + _MACHINE_S:
                raise NotebookError(f"job {job.name} did not end in {waited:.0f} s, and was stopped: train --again.")
            say(2, _STEPS, f"job {job.name} runs: {waited:.0f} s")
            time.sleep(poll_s)
    except (KeyboardInterrupt, NotebookError):
        jobs.stop(job.name)
        raise
    if status.state in ("absent", "stopped"):
        raise NotebookError(f"job {job.name} was stopped before its end: run passerelle train --again.")
    return status


def _fetch(job: Job, status: JobStatus, scratch: Path) -> Path:
    """The folder that the job left. Raises what made it fail."""
    problem = status.problem or "it did not say why"
    failed = _error(*_parted(problem), job) if status.state == "failed" else None
    try:
        load("passerelle.adapters.objectstore:get_folder")(job.output, scratch / "output")
    except PasserelleError:
        if failed is not None:
            raise failed from None
        raise
    for archive in (scratch / "output").rglob(ARCHIVE):
        unpack(archive, archive.with_name("model"))
    left = next((scratch / "output").rglob(ENDED), None)
    if left is None:
        raise failed or NotebookError(f"job {job.name} ended and left nothing at {job.output}: train --again.")
    ended = msgspec.json.decode(left.read_bytes(), type=Ended)
    if ended.kind is not None:
        raise _error(ended.kind, ended.message, job)
    return left.parent


def _take(made: Path, project: Project, folder: Path) -> Execution:
    """Put what a job made where the notebook's run here would have left it."""
    for name in (EXECUTED, HTML):
        shutil.copyfile(made / name, folder / name)
    shutil.copytree(made / SUBMISSION, folder / SUBMISSION, dirs_exist_ok=True)
    path = folder / SUBMISSION / "submission.json"
    submitted = msgspec.json.decode(path.read_bytes(), type=Submission)
    # Scored here, to prove that serving equals it: in this machine's environment of the notebook.
    here = msgspec.structs.replace(submitted, python=notebook_python(project))
    path.write_bytes(msgspec.json.encode(here))
    execution = msgspec.json.decode((made / EXECUTION).read_bytes(), type=Execution, dec_hook=_path)
    execution = msgspec.structs.replace(execution, executed=folder / EXECUTED, html=folder / HTML)
    (folder / EXECUTION).write_bytes(msgspec.json.encode(execution, enc_hook=str))
    return execution


def _path(kind: type, value: object) -> Path:
    if kind is not Path:
        raise NotImplementedError(kind)
    return Path(str(value))


def _parted(problem: str) -> tuple[str, str]:
    """A platform's text: "NotebookError: cell 2 ..." is ours, all else is its own."""
    kind, sign, message = problem.partition(": ")
    return (kind, message) if sign and kind.isidentifier() else ("", problem)


def _error(kind: str, message: str, job: Job) -> PasserelleError:
    found = getattr(errors, kind, None) if kind else None
    if isinstance(found, type) and issubclass(found, PasserelleError):
        return found(f"{message} (in job {job.name})")
    return NotebookError(
        f"job {job.name} failed: {f'{kind}: ' if kind else ''}{message}. Then passerelle train --again."
    )


def _timeout_s(project: Project) -> int:
    cells = [one for one in read_source(project.root / project.notebook.path).node.cells if one.cell_type == "code"]
    return int(project.notebook.timeout_s) * max(1, len(cells)) + _MACHINE_S
