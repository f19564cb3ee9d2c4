"""Run: execute a project's notebook in a fresh kernel of its own environment, and keep what happened."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter

from passerelle import errors
from passerelle.errors import KernelKilledError, NotebookError, PasserelleError, SettingsError, SubmissionError
from passerelle.notebook.environment import without_secrets
from passerelle.notebook.source import read_source, with_parameters
from passerelle.notebook.submission import HANDOUT, HOLDOUT, RUN_FOLDER, SUBMISSION
from passerelle.project.settings import Project
from passerelle.schema import decode_columns, encode_columns

EXECUTED = "executed.ipynb"
HTML = "executed.html"
EXECUTION = "execution.json"

#: The path of a Unix socket is limited, to 104 characters on macOS.
_SOCKET_PATH = 80
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_NEEDED = ("passerelle", "cloudpickle", "msgspec", "numpy", "pandas", "ipykernel")
_ANSWER_HOLDOUT = "import passerelle.notebook.handover as _handover\n_handover.answer_holdout()"

#: nbconvert's own page without what it would fetch: require.js, MathJax, Mermaid and widgets.
_OFFLINE = """{%- extends 'lab/index.html.j2' -%}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
"""

OnCell = Callable[[int, int, str], None]
"""Called before each cell of code: its number from 1, of how many, and its first line."""


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a notebook; kept as execution.json in the run's folder, also when it failed."""

    status: Literal["succeeded", "failed"]
    #: The executed copy, and the same as a page that needs nothing from outside.
    executed: Path
    html: Path
    seconds: float
    #: How many cells of code the notebook has.
    cells: int
    #: The number, from 1, of the cell of code that failed.
    failed_cell: int | None = None
    #: Why it failed.
    message: str | None = None


class _Failure(Exception):  # noqa: N818  (it carries an error; it is none itself)
    def __init__(self, error: PasserelleError, cell: int | None) -> None:
        self.error = error
        self.cell = cell


def run_notebook(
    project: Project, folder: Path, *, holdout: Path | None = None, on_cell: OnCell | None = None
) -> Execution:
    """Execute the project's notebook, top to bottom, on the handout in ``folder``, and have it answer the holdout.

    ``holdout`` is the file of the held-out rows, outside ``folder`` (write_handout). The kernel finds them in its
    handout after the last cell, without the target; without ``holdout`` there is nothing more to answer.

    Writes executed.ipynb, executed.html and execution.json into ``folder``, whatever happens, and what the notebook
    submits. Raises NotebookError if a cell fails, takes too long or kills its kernel; SubmissionError if what it
    submits is refused, or if it submits nothing; SettingsError if the kernel cannot be started.
    """
    source = read_source(project.root / project.notebook.path)
    node = with_parameters(source, project.notebook.parameters)
    python = notebook_python(project)
    started = time.monotonic()
    failure: _Failure | None = None
    try:
        _execute(node, python, project, folder, holdout=holdout, on_cell=on_cell)
    except _Failure as caught:
        failure = caught
    execution = Execution(
        status="failed" if failure else "succeeded",
        executed=folder / EXECUTED,
        html=folder / HTML,
        seconds=time.monotonic() - started,
        cells=sum(_is_code(cell) for cell in node.cells),
        failed_cell=failure.cell if failure else None,
        message=str(failure.error) if failure else None,
    )
    (folder / EXECUTED).write_text(json.dumps(node, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / HTML).write_text(to_html(node, source.path.stem), encoding="utf-8")
    (folder / EXECUTION).write_bytes(msgspec.json.encode(execution, enc_hook=str))
    if failure is not None:
        raise failure.error from failure
    return execution


def notebook_python(project: Project) -> str:
    """The interpreter of the notebook's environment. Raises SettingsError, with the command that mends it."""
    named = project.notebook.python
    python = sys.executable
    if named is not None:
        path = (project.root / Path(named).expanduser()) if os.sep in named or "/" in named else None
        python = str(path) if path is not None else shutil.which(named) or named
    look = "import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"
    try:
        done = subprocess.run(  # noqa: S603  (the interpreter that the project names)
            [python, "-c", look, *_NEEDED], capture_output=True, text=True, check=True, env=without_secrets(os.environ)
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SettingsError(
            f"[notebook] python is {named!r}, and {python} does not start ({error}): name the interpreter of the "
            "notebook's environment, like .venv-notebook/bin/python."
        ) from error
    missing = done.stdout.split()
    if missing:
        raise SettingsError(
            f"the notebook's environment lacks {', '.join(missing)}: run {python} -m pip install {' '.join(missing)}"
        )
    return python


def _execute(
    node: Any, python: str, project: Project, folder: Path, *, holdout: Path | None, on_cell: OnCell | None
) -> None:
    with tempfile.TemporaryDirectory() as profile:  # no start-up files, no history of the user's own
        environment = without_secrets(os.environ) | {
            RUN_FOLDER: str(folder.resolve()),
            "IPYTHONDIR": profile,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        kernel = AsyncKernelManager()
        if len(profile) < _SOCKET_PATH and os.name == "posix":  # sockets of this user alone, no port
            kernel.transport, kernel.ip = "ipc", str(Path(profile, "kernel"))
        kernel._kernel_spec = KernelSpec(  # noqa: SLF001  (so that no kernelspec need be installed anywhere)
            argv=[python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
        )
        client = NotebookClient(
            node,
            km=kernel,
            timeout=project.notebook.timeout_s,
            allow_errors=False,
            interrupt_on_timeout=False,
            resources={"metadata": {"path": str((project.root / project.notebook.path).parent)}},
        )
        with _own_loop(), _started(client, environment):
            _cells(client, node, folder, on_cell)
            if not (folder / SUBMISSION / "submission.json").is_file():
                raise _Failure(
                    SubmissionError(
                        f"{project.notebook.path} submitted no model: add passerelle.submit(model, X=X_train, "
                        "features=make_features) to its last cell."
                    ),
                    None,
                )
            if holdout is not None:
                held = decode_columns(holdout.read_bytes())
                asked = {name: values for name, values in held.items() if name != project.task.target}
                (folder / HANDOUT / HOLDOUT).write_bytes(encode_columns(asked))
                _answer_holdout(client, node, folder)


@contextmanager
def _started(client: NotebookClient, environment: dict[str, str]) -> Iterator[None]:
    """A kernel, until the block ends. Raises KernelKilledError if it is killed before it has answered once."""
    with ExitStack() as stack:
        try:
            stack.enter_context(client.setup_kernel(env=environment, cleanup_kc=True))
        except RuntimeError as error:  # jupyter_client's "Kernel died before replying to kernel_info"
            raise _Failure(KernelKilledError(f"the kernel did not start: {error}."), None) from error
        yield


@contextmanager
def _own_loop() -> Iterator[None]:
    """Close the event loop that nbclient leaves open in this thread; one that runs already is somebody else's."""
    try:
        yield
    finally:
        loop = ensure_event_loop()
        if not loop.is_running():
            loop.close()
            asyncio.set_event_loop(None)


def _cells(client: NotebookClient, node: Any, folder: Path, on_cell: OnCell | None) -> None:
    number, of = 0, sum(_is_code(cell) for cell in node.cells)
    for place, cell in enumerate(node.cells):
        if not _is_code(cell):
            continue
        number += 1
        first = _first_line(cell.source)
        if on_cell is not None:
            on_cell(number, of, first)
        where = f"cell {number} of {of} ({first})"
        see = f"The executed copy is {folder / EXECUTED}."
        try:
            client.execute_cell(cell, place)
        except CellExecutionError as error:
            raise _Failure(_cell_error(error, where, see), number) from error
        except CellTimeoutError as error:
            text = f"{where} did not end in {client.timeout} s: raise [notebook] timeout_s or make it quicker. {see}"
            raise _Failure(NotebookError(text), number) from error
        except DeadKernelError as error:
            text = f"{where} ended its kernel, as one does that takes more memory than there is. {see}"
            raise _Failure(KernelKilledError(text), number) from error


def _answer_holdout(client: NotebookClient, node: Any, folder: Path) -> None:
    """In the same kernel, with the objects that were submitted; not a cell of the executed copy."""
    cell = nbformat.NotebookNode(cell_type="code", source=_ANSWER_HOLDOUT, metadata={}, outputs=[])  # type: ignore[no-untyped-call]
    node.cells.append(cell)
    try:
        client.execute_cell(cell, len(node.cells) - 1, store_history=False)
    except CellExecutionError as error:
        raise _Failure(_cell_error(error, "answering the held-out rows", f"Run: {folder}."), None) from error
    except (CellTimeoutError, DeadKernelError) as error:
        kind = KernelKilledError if isinstance(error, DeadKernelError) else NotebookError
        raise _Failure(kind(f"the held-out rows were not answered: {error}"), None) from error
    finally:
        node.cells.pop()


def _cell_error(error: CellExecutionError, where: str, see: str) -> PasserelleError:
    """What a cell raised, as an error of ours; one of ours stays what it is."""
    said = _ANSI.sub("", error.evalue)
    kind = getattr(errors, error.ename, None)
    if isinstance(kind, type) and issubclass(kind, PasserelleError):
        return kind(f"{said} (raised in {where}. {see})")
    return NotebookError(f"{where} raised {error.ename}: {said}. {see} Correct the cell, and train again.")


def _is_code(cell: Any) -> bool:
    return bool(cell.cell_type == "code" and cell.source.strip())


def _first_line(source: str) -> str:
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith("#")]
    return (code or lines)[0][:80]


def to_html(node: Any, title: str) -> str:
    """A notebook as one page that asks nothing of the network."""
    exporter = HTMLExporter(raw_template=_OFFLINE)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(node, {"metadata": {"name": title}})
    return str(body)
