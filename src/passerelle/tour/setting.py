"""Setting: the copy of the project that is lived, its deliveries set apart, and what is changed in it on the way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import tomlkit

from passerelle.data.contract import load_contract
from passerelle.data.landing import table_of
from passerelle.decoding import prepared
from passerelle.deployment.spec import environment_folder
from passerelle.errors import DataError, PasserelleError, SettingsError
from passerelle.loop.rollout import PRODUCTION
from passerelle.project.settings import FILE, Project, load_project
from passerelle.serving.observation import is_alive, observed
from passerelle.state.lease import lease
from passerelle.tour.measured import FILE as MEASURED
from passerelle.tour.measured import PROGRESS, REPEATED
from passerelle.tour.script import Incident, Script, load_script

UNFINISHED = "unfinished"
PROJECT = "project"
#: The deliveries that have not landed yet, and the project's settings as they were before anything was changed.
DELIVERIES = "deliveries"
PRISTINE = "pristine.toml"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one stamp: what lands together (flights-2013-02.csv and outcomes-2013-02.csv)."""

    #: What their names have after the table's, without the sign between: "2013-02".
    stamp: str
    files: tuple[Path, ...]


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a tour was begun with: one that was cut goes on with the same, or not at all."""

    source: str
    months: int | None


def prepare(source: Path, out: Path, *, months: int | None) -> tuple[Project, Script, bool]:
    """A copy of the project to live in, its script, and whether an earlier, cut tour left it half lived.

    Raises SettingsError or DataError, and leaves nothing behind, if the project cannot be toured; SettingsError too if
    another tour was cut here, or something still runs on what was lived here.
    """
    begun = Begun(source=str(source.resolve()), months=months)
    mark, folder = out / UNFINISHED, out / PROJECT
    if mark.exists() and folder.exists():
        before = msgspec.json.decode(mark.read_bytes(), type=prepared(Begun))
        if before != begun:
            again = f"passerelle tour {before.source}" + (f" --months {before.months}" if before.months else "")
            raise SettingsError(
                f"another tour was cut in {out}: finish it with `{again} -o {out}`, remove the folder, or name another "
                "with -o."
            )
        project = load_project(folder / FILE)
        return project, load_script(project.root), True
    if load_project(source / FILE).task.time is None:
        raise SettingsError("a tour lives by the events' own time: name the main table's time column as task.time.")
    _refuse_living(folder)
    for name in (PROJECT, DELIVERIES, "stages"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (PRISTINE, REPEATED, MEASURED, PROGRESS):
        (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    mark.write_bytes(msgspec.json.encode(begun))
    try:
        project = _copy(source, out)
    except PasserelleError:
        mark.unlink()
        raise
    return project, load_script(project.root), False


def _refuse_living(folder: Path) -> None:
    """What was lived here before is thrown away; not while somebody runs it."""
    if not (folder / FILE).exists():
        return
    state = load_project(folder / FILE).state
    served = [one.pid for one in observed(environment_folder(state, PRODUCTION)).values() if is_alive(one.pid)]
    if served:
        raise SettingsError(
            f"{folder} is being served, by process {served[0]}: end it, or name another folder with -o."
        )
    with lease(state, "loop"):
        pass


def deliveries(project: Project, out: Path) -> list[Delivery]:
    """The deliveries of the main table, in the order of their stamps; what has no such stamp lands with the first.

    Raises DataError if there are not two: one to learn from, one to answer.
    """
    tables = (project.data.main, project.data.outcomes, *load_contract(project).tables)
    files = sorted(path for path in (out / DELIVERIES).iterdir() if not path.name.startswith("."))
    tables_of = {path: table_of(path, known=tables) for path in files}
    stamps = {path: path.name.partition(".")[0].removeprefix(tables_of[path]).lstrip("-_") for path in files}
    of_main = sorted({stamps[path] for path in files if tables_of[path] == project.data.main})
    if len(of_main) < 2:  # noqa: PLR2004  (one to learn from, one to answer)
        raise DataError(
            f"a tour needs two deliveries of {project.data.main} in {project.data.inbox}, one to learn from and one "
            f"to answer; there are {len(of_main)}."
        )
    return [
        Delivery(
            stamp=stamp,
            files=tuple(
                path for path in files if stamps[path] == stamp or (number == 0 and stamps[path] not in of_main)
            ),
        )
        for number, stamp in enumerate(of_main)
    ]


def land(project: Project, delivery: Delivery, incidents: Sequence[Incident]) -> None:
    """Put a delivery's files into the project's inbox, and before them those that an incident delivers."""
    inbox = project.root / project.data.inbox
    inbox.mkdir(exist_ok=True)
    unexpected = [project.root / one.deliver for one in incidents if one.deliver]
    for path in (*unexpected, *delivery.files):
        if not path.exists():
            raise SettingsError(f"tour.toml delivers {path}, and there is no such file: see its prepare.")
        draft = inbox / f".{path.name}"
        shutil.copyfile(path, draft)
        draft.replace(inbox / path.name)


def change(project: Project, out: Path, incidents: Sequence[Incident]) -> None:
    """Give the project the notebook and the settings of these incidents, or its own where there are none."""
    settings = tomlkit.parse((out / PRISTINE).read_text(encoding="utf-8"))
    for incident in incidents:
        if incident.notebook:
            if not (project.root / incident.notebook).exists():
                raise SettingsError(f"tour.toml names {incident.notebook}, and there is no such file: see its prepare.")
            settings.setdefault("notebook", tomlkit.table())["path"] = incident.notebook
    for incident in incidents:
        for section, values in incident.settings.items():
            for key, value in values.items():
                settings.setdefault(section, tomlkit.table())[key] = value
    draft = project.root / f".{FILE}"
    draft.write_text(tomlkit.dumps(settings), encoding="utf-8")
    draft.replace(project.root / FILE)


def _copy(source: Path, out: Path) -> Project:
    draft = out / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, ignore=shutil.ignore_patterns(".passerelle", "__pycache__", "tour-report"))
    project = load_project(draft / FILE)
    inbox = draft / project.data.inbox
    scripts = load_script(draft).prepare
    if scripts:
        shutil.rmtree(inbox, ignore_errors=True)
    for name in scripts:
        command = [sys.executable, name, project.data.inbox]
        done = subprocess.run(command, cwd=draft, check=False, capture_output=True, text=True)  # noqa: S603  (the project's own)
        if done.returncode:
            raise SettingsError(f"{name}, which tour.toml runs to prepare, failed: {done.stderr.strip()[-1000:]}")
    shutil.copyfile(draft / FILE, out / PRISTINE)
    if not inbox.exists():
        raise DataError(f"{source} has no deliveries in {project.data.inbox}, and its tour.toml prepares none.")
    inbox.rename(out / DELIVERIES)
    inbox.mkdir()
    first = deliveries(project, out)[0]  # refuses what cannot be lived, before anything is
    known = (project.data.main, project.data.outcomes)
    if project.data.outcomes != project.data.main and not any(
        table_of(path, known=known) == project.data.outcomes for path in first.files
    ):
        raise DataError(
            f"a tour learns from the first delivery, {first.stamp}, and it holds no {project.data.outcomes}: deliver "
            "the outcomes of each period under the stamp of its events."
        )
    draft.rename(out / PROJECT)
    return load_project(out / PROJECT / FILE)
