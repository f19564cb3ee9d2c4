"""Session: what this kernel was handed, by the pipeline or, by hand, by a handout made for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import DataError, PasserelleError
from passerelle.notebook.captured import Cells
from passerelle.notebook.submission import (
    HANDOUT,
    HANDOUT_FILE,
    RUN_FOLDER,
    SUBMISSION,
    Handout,
    table_file,
)
from passerelle.project.settings import find_project
from passerelle.schema import Columns, decode_columns

#: Below the project's state: the interpreter that Passerelle's own commands run in, and the folder of runs by hand.
INTERPRETER = "python"
BY_HAND = "by-hand"


class Session:
    """One kernel's run: its folder, what was handed out, and what was submitted."""

    def __init__(self, folder: Path, root: Path, *, by_hand: bool) -> None:
        self.folder = folder
        self.root = root
        self.by_hand = by_hand
        #: The very objects that were submitted, which answer the holdout.
        self.submitted: Any = None
        self._told: set[str] = set()
        self._columns: dict[str, Columns] = {}
        path = folder / HANDOUT / HANDOUT_FILE
        try:
            self.handout = msgspec.json.decode(path.read_bytes(), type=prepared(Handout))
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"{path} cannot be read ({error}): run passerelle train again.") from error

    @property
    def submission(self) -> Path:
        """Where a submission goes."""
        return self.folder / SUBMISSION

    def columns(self, table: str) -> Columns:
        """A table's rows. Raises DataError naming the tables there are."""
        if table not in self.handout.tables:
            raise DataError(f"there is no table {table!r}: the tables are {', '.join(self.handout.tables)}.")
        if table not in self._columns:
            self._columns[table] = decode_columns((self.folder / HANDOUT / table_file(table)).read_bytes())
        return self._columns[table]

    def tell(self, table: str, sentence: str) -> None:
        """Print what was handed out, once a table."""
        if table not in self._told:
            self._told.add(table)
            print(f"passerelle: {sentence}")  # noqa: T201  (the reader sits at the notebook)


_current: Session | None = None


def current() -> Session:
    """This kernel's session: in the pipeline the run's, else one made now for the project of the working directory."""
    global _current  # noqa: PLW0603  (a kernel has one session, as long as it lives)
    named = os.environ.get(RUN_FOLDER)
    if named is not None:
        folder = Path(named)
        if _current is None or _current.folder != folder:
            _current = Session(folder, _root(), by_hand=False)
        return _current
    project = find_project(Path.cwd())
    folder = project.state / BY_HAND
    if _current is None or _current.folder != folder:
        _hand_out(project.root, project.state, folder)
        _current = Session(folder, project.root, by_hand=True)
    return _current


def _root() -> Path:
    """The project's folder; outside any, the working directory."""
    try:
        return find_project(Path.cwd()).root
    except PasserelleError:
        return Path.cwd()


def _hand_out(root: Path, state: Path, folder: Path) -> None:
    """Have the pipeline make a fresh handout, in its own environment: this kernel may not have what that needs."""
    recorded = state / INTERPRETER
    python = recorded.read_text(encoding="utf-8").strip() if recorded.is_file() else sys.executable
    command = [python, "-m", "passerelle", "handout", str(folder)]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603  (ours)
    except OSError as error:
        raise DataError(
            f"{python}, which {recorded} names, cannot be started ({error}): run any passerelle command in the project "
            "once, from the environment where Passerelle is installed."
        ) from error
    if done.returncode != 0:
        raise DataError(f"no data could be handed out: {(done.stderr or done.stdout).strip()}")


def cells() -> Cells:
    """What ran so far: IPython's history, else the source of the script that is running."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        return Cells(sources=tuple(shell.user_ns.get("In", ())), namespace=shell.user_ns)
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    source = Path(file).read_text(encoding="utf-8") if file and Path(file).suffix == ".py" else ""
    return Cells(sources=(source,) if source else (), namespace=vars(main))
