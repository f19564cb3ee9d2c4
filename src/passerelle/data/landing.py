"""A delivery becomes an accepted batch, whole and once, or is quarantined, whole, with a report.

The order of steps makes a crash harmless at any point: the files are copied to ``<state>/landing/<id>`` and checked
there; the state says "landing"; each table is appended to, with the delivery's id, unless it holds it already; then one
transaction says "accepted", which versions snapshots read, and the sentence of the timeline. Whoever ingests next
finishes what was left at "landing".

The deliveries of one moment may set up a project with any tables; from then on a name that says no table of it is put
aside (``_unknown``): a letter out of place must not make a table.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import sqlalchemy as sa

from passerelle.data import deliveries
from passerelle.data.checking import Problem, check
from passerelle.data.contract import TableContract, load_contract, near
from passerelle.data.deliveries import Delivery, File
from passerelle.data.inference import infer, write_contract
from passerelle.data.quarantine import Report, quarantine, quarantine_path
from passerelle.data.reading import Raw, read_file, stem
from passerelle.data.table import append, identities, set_landed, snapshot
from passerelle.errors import DataError, SettingsError
from passerelle.project.settings import Project
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.lease import lease
from passerelle.state.timeline import Event, record

_NAME = r"[a-z][a-z0-9_-]{0,62}"
#: Names of files in a handout, which tables may not have.
_RESERVED = ("handout", "holdout")


class _Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that was read and checked."""

    #: Table → its typed rows; complete only if there are no problems.
    rows: dict[str, pa.Table]
    problems: tuple[Problem, ...]
    #: The contracts of tables that are delivered for the first time.
    new: dict[str, TableContract]


def ingest(
    project: Project, paths: Sequence[Path], *, now: datetime, table: str | None = None, new_table: bool = False
) -> list[Delivery]:
    """Land deliveries, in order: a file is one batch, a folder is one batch of all files in it.

    ``table`` is the table of every file; else their names say it. A table that the project does not have is made only
    by ``new_table``, or by the deliveries of the moment that sets the project up. A batch that does not fit the
    contract is quarantined and the next one goes on. Raises DataError for a path that is not there or whose table
    cannot be told (before anything is done), SettingsError if contract.toml cannot be used, LeaseError if another
    process ingests.
    """
    for path in paths:
        if not _files_of(path):
            raise DataError(f"{path} {'holds no file' if path.exists() else 'is not there'}: name a file or a folder.")
    with lease(project.state, "ingest"):
        engine = open_state(project.state)
        finished = _finish_landings(project, engine)
        known = _known(project)
        for file in (one for path in paths for one in _files_of(path)):
            table_of(file, known=known, table=table)  # before anything is done
        try:
            return [
                _deliver(project, engine, path, now=now, table=table, new_table=new_table, finished=finished)
                for path in paths
            ]
        finally:
            shutil.rmtree(_draft(project), ignore_errors=True)


def inbox(project: Project) -> list[Path]:
    """What stands in the inbox and was neither accepted nor quarantined yet, sorted: files, and folders as batches.

    A file that was put aside is back if its name says another table now.
    """
    folder = project.root / project.data.inbox
    if not folder.is_dir():
        return []
    with open_state(project.state).connect() as connection:
        seen = deliveries.seen(connection)
    standing = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [path for path in standing if any(_is_new(project, file, seen) for file in _files_of(path))]


def _is_new(project: Project, file: Path, seen: Mapping[str, Collection[str] | None]) -> bool:
    """Is this content neither accepted, nor put aside for the table that the file's name says?"""
    sha256 = deliveries.sha256(file)
    aside = seen.get(sha256, ())
    if not aside:
        return sha256 not in seen
    try:
        return table_of(file, known=_known(project)) not in aside
    except DataError:
        return False


def table_of(path: Path, *, known: Collection[str], table: str | None = None) -> str:
    """The table that a file belongs to.

    It is the one given, else the known one whose name its name begins with, else its folder's name if that is a known
    table, else its name up to a date or number. Raises DataError if that is no name of a table.

    >>> table_of(Path("deliveries/flights-2013-01.csv"), known=("flights", "weather"))
    'flights'
    """
    name = stem(path).lower()
    starts = [one for one in known if re.match(rf"{re.escape(one)}(?![a-z0-9])", name)]
    found = table
    if found is None and starts:
        found = max(starts, key=len)
    if found is None and path.parent.name in known:
        found = path.parent.name
    if found is None:
        found = re.split(r"[-_](?=\d)", name, maxsplit=1)[0]
    if not re.fullmatch(_NAME, found) or found in _RESERVED:
        raise DataError(
            f"the table of {path.name} cannot be told from its name ({found!r} is none): say it with --table NAME "
            "(a letter a-z, then letters, digits, - or _)."
        )
    return found


def _known(project: Project) -> tuple[str, ...]:
    named = (project.data.main, project.data.outcomes, *load_contract(project).tables, *snapshot(project).tables)
    return tuple(dict.fromkeys(named))


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    inside = (one for one in path.rglob("*") if one.is_file())
    return sorted(one for one in inside if not any(part.startswith(".") for part in one.relative_to(path).parts))


def _unknown(
    project: Project, connection: sa.Connection, files: Sequence[File], *, path: Path, now: datetime, named: bool
) -> dict[str, str]:
    """The tables of a batch that a project does not have, each with why it is not made and what to do.

    Any table is made while the project is set up: nothing was accepted at another moment (an inbox that is gone
    through file by file has one), and the contract holds only what was brought at this one.
    """
    known = _known(project)
    before = deliveries.accepted_rows(connection)
    brought = {name for _, rows in before for name in rows}
    if all(at == now for at, _ in before) and brought.issuperset(load_contract(project).tables):
        return {}
    shown = path.resolve()
    shown = shown.relative_to(project.root.resolve()) if shown.is_relative_to(project.root.resolve()) else path
    mend = "say that table with --table" if named else "rename the file"
    step = f"passerelle ingest {shlex.quote(str(shown))}{{}} --new-table"
    reasons = {}
    for name in dict.fromkeys(file.table for file in files if file.table not in known):
        meant = near(name, known)
        then = f"{meant} Then {mend}" if meant else f": the tables are {', '.join(known)}. If it is one of them, {mend}"
        say = step.format(f" --table {name}" if named else "")
        reasons[name] = f"no table is called {name!r}{then}. If it is a new table, say so: {say}"
    return reasons


def _deliver(
    project: Project,
    engine: sa.Engine,
    path: Path,
    *,
    now: datetime,
    table: str | None,
    new_table: bool,
    finished: dict[str, Delivery],
) -> Delivery:
    draft = _draft(project)
    shutil.rmtree(draft, ignore_errors=True)
    known = _known(project)
    files: dict[tuple[str, str], File] = {}
    for number, source in enumerate(_files_of(path)):
        copy = draft / str(number) / source.name
        _copy(source, copy)
        name = str(source.relative_to(path.parent)) if path.is_dir() else source.name
        file = File(
            path=copy,
            name=name,
            table=table_of(source, known=known, table=table),
            sha256=deliveries.sha256(copy),
        )
        files.setdefault((file.table, file.sha256), file)
    with engine.connect() as connection:
        before = {key: deliveries.accepted_with(connection, file) for key, file in files.items()}
        fresh = [file for key, file in files.items() if before[key] is None]
        repeated = next((one for one in before.values() if one is not None), None)
        if not fresh and repeated is not None:
            old = finished.get(repeated) or deliveries.find(connection, repeated)
            if old is not None:
                return old if repeated in finished else msgspec.structs.replace(old, repeated=True)
        named = table is not None
        unknown = {} if new_table else _unknown(project, connection, fresh, path=path, now=now, named=named)
    batch = _check(project, fresh, unknown=unknown)
    delivery = Delivery(
        id=deliveries.delivery_id(fresh),
        at=now,
        status="landing",
        files=tuple(file.name for file in fresh),
        rows={name: rows.num_rows for name, rows in batch.rows.items()},
        problems=tuple(problem.sentence for problem in batch.problems),
    )
    if batch.problems:
        return _put_aside(project, engine, delivery, fresh, batch=batch, path=path)
    staged = _stage(project, delivery.id, fresh)
    if batch.new:
        write_contract(project, {name: (contract, batch.rows[name]) for name, contract in batch.new.items()})
    with writing(engine) as connection:
        deliveries.keep(connection, delivery, staged)
    return _append(project, engine, delivery, staged, rows=batch.rows)


def _copy(source: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True)
    try:
        with source.open("rb") as reading, copy.open("wb") as writing_to:
            shutil.copyfileobj(reading, writing_to)
            writing_to.flush()
            os.fsync(writing_to.fileno())
    except OSError as error:
        raise DataError(f"{source} cannot be copied ({error}): mend its rights, or free the disk.") from error


def _draft(project: Project) -> Path:
    return project.state / "landing" / "draft"


def _staged(project: Project, delivery: str, file: File) -> Path:
    return project.state / "landing" / delivery / file.sha256 / Path(file.name).name


def _stage(project: Project, delivery: str, files: Sequence[File]) -> list[File]:
    folder = project.state / "landing" / delivery
    shutil.rmtree(folder, ignore_errors=True)
    staged = [msgspec.structs.replace(file, path=_staged(project, delivery, file)) for file in files]
    for file, target in zip(files, staged, strict=True):
        target.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.replace(target.path)
    return staged


def _check(
    project: Project, files: Sequence[File], *, unknown: Mapping[str, str] | None = None, again: bool = False
) -> _Batch:
    """Read and check the files.

    ``unknown`` are the tables that are not made, each with its reason; ``again``: the files were found good before,
    only their rows are needed.
    """
    contract = load_contract(project).tables
    hidden = [column for column, privacy in project.privacy.items() if privacy != "keep"]
    problems: list[Problem] = []
    raws: dict[str, list[Raw]] = {}
    for file in files:
        if unknown and file.table in unknown:
            problems.append(Problem(file=file.name, reason=unknown[file.table]))
            continue
        try:
            raw = msgspec.structs.replace(read_file(file.path), name=file.name)
        except (DataError, pa.ArrowException) as error:
            reason = str(error).removeprefix(file.path.name).lstrip(": ")
            problems.append(Problem(file=file.name, reason=reason))
            continue
        raws.setdefault(file.table, []).append(raw)
    rows: dict[str, pa.Table] = {}
    new: dict[str, TableContract] = {}
    for name, some in sorted(raws.items(), key=lambda one: one[0] != project.data.main):  # the main table first
        table = contract.get(name)
        if table is None:
            try:
                table = new[name] = infer(project, name, some, {**contract, **new})
            except (DataError, SettingsError) as error:
                problems.append(Problem(file=", ".join(raw.name for raw in some), reason=str(error)))
                continue
        accepted = None if again else identities(project, name, table)
        checked = check(some, table, accepted=accepted, hidden=hidden)
        rows[name] = checked.rows
        problems += checked.problems
    return _Batch(rows=rows, problems=tuple(problems), new=new)


def _put_aside(
    project: Project, engine: sa.Engine, delivery: Delivery, files: Sequence[File], *, batch: _Batch, path: Path
) -> Delivery:
    report = Report(
        project=project.name,
        delivery=delivery.id,
        at=delivery.at,
        files=delivery.files,
        rows={name: count for name, count in delivery.rows.items() if count},
        problems=batch.problems,
        command=f"passerelle ingest {path}",
    )
    page = quarantine(project, report, [file.path for file in files])
    found = msgspec.structs.replace(delivery, status="quarantined", rows=report.rows, report=str(page))
    with writing(engine) as connection:
        deliveries.keep(connection, found, files)
        _tell(connection, found)
    return found


def _append(
    project: Project, engine: sa.Engine, delivery: Delivery, files: Sequence[File], *, rows: dict[str, pa.Table]
) -> Delivery:
    versions = {name: append(project, name, some, delivery=delivery.id) for name, some in rows.items()}
    accepted = msgspec.structs.replace(delivery, status="accepted")
    with writing(engine) as connection:
        deliveries.keep(connection, accepted, files)
        for name, version in versions.items():
            set_landed(connection, name, version)
        _tell(connection, accepted)
        settled = deliveries.settle(connection)
    shutil.rmtree(project.state / "landing" / delivery.id, ignore_errors=True)
    for one in (delivery.id, *settled):
        shutil.rmtree(quarantine_path(project, one), ignore_errors=True)  # the same files, refused before
    return accepted


def _tell(connection: sa.Connection, delivery: Delivery) -> None:
    details = {"status": delivery.status, "rows": delivery.rows, "problems": len(delivery.problems)}
    sentence = f"Delivery {delivery.status}: {delivery.sentence}"
    event = Event(at=delivery.at, kind="delivery", subject=delivery.id, sentence=sentence, details=details)
    record(connection, event)


def _finish_landings(project: Project, engine: sa.Engine) -> dict[str, Delivery]:
    """Finish what a process left half way when it died."""
    finished = {}
    with engine.connect() as connection:
        halves = deliveries.landing(connection)
        waiting = [(deliveries.find(connection, one), _files(connection, project, one)) for one in halves]
    for delivery, files in waiting:
        if delivery is None:
            continue
        batch = _check(project, files, again=True)
        if batch.problems:
            raise DataError(
                f"the delivery {', '.join(delivery.files)} was left half way, and does not fit any more: "
                f"{batch.problems[0].sentence}. Undo the edit of contract.toml and ingest again."
            )
        finished[delivery.id] = _append(project, engine, delivery, files, rows=batch.rows)
    return finished


def _files(connection: sa.Connection, project: Project, delivery: str) -> list[File]:
    query = sa.select(tables.files).where(tables.files.c.delivery == delivery)
    found = []
    for row in connection.execute(query):
        file = File(path=Path(), name=row.name, table=row.table, sha256=row.sha256)
        found.append(msgspec.structs.replace(file, path=_staged(project, delivery, file)))
    return found
