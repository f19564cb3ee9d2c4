"""Jobs: the notebook, run by a cloud: what it needs is sent, the job is awaited, and what it made is fetched.

| below ``<store>/runs/<project>/<run>/`` | what |
|---|---|
| input/project/ | passerelle.toml, the notebook, and the modules that it may import |
| input/run/handout/ | the rows to learn from |
| input/asked.msgpack | the held-out rows, without their target: what is to be answered |
| input/name | the run's key |
| output/ | the executed copy and the submission; job.json last: how it ended, of what run, with digests (loop.jobrun) |
| output/timed_out | put from here before a job whose time is over is stopped: what is told of it |

What was sent is deleted once the job has ended. Who waits may die: the job has the run's key for its name, is found by
it, and is not started twice. What the notebook itself failed by stands, and so does that its time was over. A job that
the platform stopped, lost or damaged is followed by another at the next call, named ``<run>-2`` and so on, with an
output of its own. Parity, gate, seal and signature stay here: a cloud sees neither the truth of the holdout nor a key.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import msgspec

from passerelle import errors
from passerelle.decoding import prepared
from passerelle.deployment.applying import open_target
from passerelle.deployment.package import PackageError, unpack
from passerelle.deployment.target import Job, Jobs, JobStatus, TargetError
from passerelle.errors import KilledError, NotebookError, PasserelleError, SettingsError, StoreError, SubmissionError
from passerelle.loop.provenance import module_paths
from passerelle.names import load
from passerelle.notebook.run import EXECUTED, EXECUTION, HTML, Execution, OnCell, notebook_python
from passerelle.notebook.source import read_source
from passerelle.notebook.submission import HANDOUT, SUBMISSION, Submission
from passerelle.project.settings import FILE, Project
from passerelle.schema import decode_columns, encode_columns

#: Of a job's input: the project's files, the run's folder, the rows to answer.
PROJECT, RUN, ASKED, NAME = "project", "run", "asked.msgpack", "name"
#: Of its output: how it ended; put last.
ENDED = "job.json"
#: Beside it, from here: its time was over.
TIMED_OUT = "timed_out"
#: Where SageMaker packs a job's output, and how deep below the job's folder.
ARCHIVE = "model.tar.gz"

#: Between two looks at a job.
POLL_S = 10.0
#: For a machine to be found and an image to be fetched, besides the cells' own time.
MACHINE_S = 1800
#: The platform's own limit is so much beyond ours: who waits stops a job and notes why, and a platform does not.
GRACE_S = 600
_STEPS = 3
#: Of what a job that succeeded left.
_NEEDED = (EXECUTED, HTML, EXECUTION, f"{SUBMISSION}/submission.json")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended, in its own words."""

    #: The class of the error and its message; None: it did what was asked.
    kind: str | None = None
    message: str = ""
    #: The run that its input was of; "" if it did not come so far.
    run: str = ""
    #: What it left → the sha256 of that.
    files: dict[str, str] = {}


def digests(folder: Path) -> dict[str, str]:
    """Path → sha256, of all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Runner(Protocol):
    """Runs a project's notebook: notebook.run.run_notebook here, or a job."""

    def __call__(
        self, project: Project, folder: Path, *, holdout: Path | None = None, on_cell: OnCell | None = None
    ) -> Execution:
        """As run_notebook: the submission and the executed copy are in ``folder`` then; errors as it raises them."""


def runner_of(project: Project, target: str | None = None) -> Runner | None:
    """What runs the notebook: the jobs of this target, else of ``[loop] trains_at``; None: this machine.

    Raises SettingsError for a target that there is not, or that runs no jobs.
    """
    name = target or project.loop.trains_at
    if name is None:
        return None
    jobs: Any = open_target(project, name)
    store = getattr(project.targets[name], "store", None)
    if store is None or not all(hasattr(jobs, verb) for verb in ("start", "status", "stop")):
        raise SettingsError(f"target {name!r} runs no training jobs: train here, or name a cloud's target.")
    return run_as_job(jobs, store)


def run_as_job(jobs: Jobs, store: str, *, poll_s: float | None = None) -> Runner:
    """A runner that has the notebook run by ``jobs``, by way of a folder of ``store``.

    It raises as run_notebook does, for the job says what went wrong: the same data and code are not run again then, but
    by ``passerelle train --again``. NotebookError, too, for a job that is stopped here since it took too long.
    TargetError if the cloud refuses, stops the job or loses what it made; StoreError if the store cannot be reached:
    called again, it goes on where it was.
    """

    def run(project: Project, folder: Path, *, holdout: Path | None = None, on_cell: OnCell | None = None) -> Execution:
        say = on_cell or (lambda _number, _of, _line: None)
        at = f"{store.rstrip('/')}/runs/{project.name}/{folder.name}"
        job, state, late = _newest(jobs, at, folder.name, _timeout_s(project))
        if state == "absent" and late is None:
            say(1, _STEPS, f"what the notebook needs is sent to {job.input}")
            _send(project, folder, holdout, job.input)
            jobs.start(job)
        status = _await(jobs, job, say, POLL_S if poll_s is None else poll_s, late)
        say(3, _STEPS, f"what the job made is fetched from {job.output}")
        with tempfile.TemporaryDirectory(prefix="passerelle-job-") as scratch:
            made, ended = _fetch(job, status, Path(scratch) / "output", run=folder.name)
            _clear(job.input, say)
            for name in (EXECUTED, HTML):  # of a notebook that failed, too
                if (made / name).exists():
                    shutil.copyfile(made / name, folder / name)
            if ended.kind is not None:
                raise _error(ended.kind, ended.message, job)
            return _take(made, project, folder)

    return run


def _newest(jobs: Jobs, at: str, run: str, timeout_s: int) -> tuple[Job, str, str | None]:
    """The job of a run that is to be awaited, and how far it is: the newest, or one more if that came to nothing.

    And what is told of it if its time was over, and it has not ended by itself.
    """
    for number in count(1):
        more = "" if number == 1 else f"-{number}"
        job = Job(name=run + more, input=f"{at}/input", output=f"{at}/output{more}", timeout_s=timeout_s)
        status = jobs.status(job.name)
        # What ended by itself after all counts as it ended: it is proved like any other, and its machine was paid for.
        late = None if status.state in ("succeeded", "failed") else _noted(job)
        if late is not None or status.state in ("absent", "running") or not _is_lost(job, status, run):
            return job, status.state, late
    raise AssertionError("there is always another number")


def _is_lost(job: Job, status: JobStatus, run: str) -> bool:
    """Has a job that ended come to nothing that would come again? Not if its notebook failed, or made something."""
    if status.state == "stopped":
        return True
    with tempfile.TemporaryDirectory(prefix="passerelle-job-") as scratch:
        try:
            _, ended = _fetch(job, status, Path(scratch) / "output", run=run)
        except StoreError:
            raise
        except PasserelleError as error:
            return not _is_own(error)
    return ended.kind is not None and not _is_own(_error(ended.kind, ended.message, job))


def _is_own(error: PasserelleError) -> bool:
    """Is it the notebook's own fault, which would come again?"""
    return isinstance(error, (NotebookError, SubmissionError)) and not isinstance(error, KilledError)


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
        (staged / NAME).write_text(folder.name)
        load("passerelle.adapters.objectstore:put_folder")(at, staged)


def _clear(at: str, say: OnCell) -> None:
    """Take back the rows that were sent: what is forgotten here is to be nowhere else."""
    try:
        sent = load("passerelle.adapters.objectstore:open_store")(at)
        for found in list(sent.list()):
            sent.delete(found.key)
    except StoreError as error:
        say(_STEPS, _STEPS, f"what was sent stays at {at}, delete it: {error}")


def _await(jobs: Jobs, job: Job, say: OnCell, poll_s: float, late: str | None = None) -> JobStatus:
    """How a job ended. ``late``: its time was over before, by whoever waited then.

    Raises NotebookError for one whose time is over, and stops it; TargetError for one that was stopped by others.
    """
    started = time.monotonic()
    try:
        while (status := jobs.status(job.name)).state == "running":
            waited = time.monotonic() - started
            if late is None and waited > job.timeout_s - GRACE_S:
                late = _note(job, waited, say)
            if late is not None:
                jobs.stop(job.name)
                status = jobs.status(job.name)  # it may have ended by itself meanwhile: see _newest
                break
            say(2, _STEPS, f"job {job.name} runs: {waited:.0f} s")
            time.sleep(poll_s)
    except KeyboardInterrupt:
        jobs.stop(job.name)
        raise
    if status.state in ("succeeded", "failed"):
        return status
    if late is None:
        raise TargetError(f"job {job.name} was stopped before its end: passerelle train starts another.")
    _clear(job.input, say)
    raise NotebookError(late)


def _note(job: Job, waited: float, say: OnCell) -> str:
    """What is told of a job whose time is over, kept where the next to wait finds it if we die before it is told."""
    late = (
        f"job {job.name} did not end in {waited:.0f} s, and was stopped: raise notebook.timeout_s in "
        f"{FILE} if its cells need longer, else find the one that hangs; then passerelle train --again."
    )
    try:
        _output(job).put(TIMED_OUT, late.encode())
    except StoreError as error:  # it is paid for by the minute: stopped all the same
        say(2, _STEPS, f"that the time of job {job.name} is over cannot be noted: {error}")
    return late


def _noted(job: Job) -> str | None:
    """What is told of a job whose time was over; None if it was not."""
    told = _output(job).get(TIMED_OUT)
    return None if told is None else told.decode(errors="replace")


def _output(job: Job) -> Any:
    return load("passerelle.adapters.objectstore:open_store")(job.output)


def _fetch(job: Job, status: JobStatus, output: Path, *, run: str) -> tuple[Path, Ended]:
    """The folder that the job left, and how it ended: of this run, and whole.

    Raises what made the job fail, where it left nothing; TargetError for what is missing, damaged or another run's;
    StoreError if the store cannot be reached.
    """
    again = "passerelle train starts another."
    failed = _error(*_parted(status.problem or "it did not say why"), job) if status.state == "failed" else None
    if not any(True for _ in _output(job).list()):
        raise failed or TargetError(f"job {job.name} ended and left nothing at {job.output}: {again}")
    load("passerelle.adapters.objectstore:get_folder")(job.output, output)
    try:
        for archive in list(output.rglob(ARCHIVE)):
            unpack(archive, archive.with_name("model"))
        left = next(output.rglob(ENDED), None)
        if left is None:
            raise failed or TargetError(f"job {job.name} left {job.output} without {ENDED}: {again}")
        ended = msgspec.json.decode(left.read_bytes(), type=prepared(Ended))
    except (PackageError, msgspec.DecodeError) as error:
        raise TargetError(f"what job {job.name} left at {job.output} is damaged ({error}): {again}") from error
    if ended.run != run and (ended.run or ended.kind is None):
        whose = f"of the run {ended.run}" if ended.run else "of no run that it names"
        raise TargetError(f"what lies at {job.output} is {whose}, not of {run}: {again}")
    made = left.parent
    there = digests(made)
    wrong = sorted(name for name, digest in ended.files.items() if there.get(name) != digest)
    wrong += [] if ended.kind is not None else sorted(set(_NEEDED) - set(ended.files))
    if wrong:
        what = "is missing" if wrong[0] not in there else "is damaged"
        raise TargetError(f"{wrong[0]}, which job {job.name} made, {what} at {job.output}: {again}")
    for name in set(there) - set(ended.files) - {ENDED}:
        (made / name).unlink()  # whoever put it there, it was not this job
    return made, ended


def _take(made: Path, project: Project, folder: Path) -> Execution:
    """Put what a job made where the notebook's run here would have left it."""
    shutil.copytree(made / SUBMISSION, folder / SUBMISSION, dirs_exist_ok=True)
    path = folder / SUBMISSION / "submission.json"
    submitted = msgspec.json.decode(path.read_bytes(), type=prepared(Submission))
    # Scored here, to prove that serving equals it: in this machine's environment of the notebook.
    here = msgspec.structs.replace(submitted, python=notebook_python(project))
    path.write_bytes(msgspec.json.encode(here))
    execution = msgspec.json.decode((made / EXECUTION).read_bytes(), type=prepared(Execution), dec_hook=_path)
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
    told = f"{kind}: {message}" if kind else message
    return TargetError(f"job {job.name} failed: {told.rstrip('.')}. Mend that; then passerelle train starts another.")


def _timeout_s(project: Project) -> int:
    cells = [one for one in read_source(project.root / project.notebook.path).node.cells if one.cell_type == "code"]
    return int(project.notebook.timeout_s) * max(1, len(cells)) + 2 * MACHINE_S + GRACE_S
