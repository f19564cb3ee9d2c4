"""Pickling: the model and the notebook's functions as bytes that another process can read.

What the notebook defines, and the modules of the project, travel by value; libraries by their name.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

from passerelle.errors import SubmissionError


def pickled(parts: Mapping[str, Any], root: Path) -> bytes:
    """``parts`` as bytes. Raises SubmissionError naming the part, and the global in it, that cannot be written."""
    with _by_value(root):
        try:
            return bytes(cloudpickle.dumps(dict(parts)))
        except Exception as error:
            raise SubmissionError(
                f"{_culprit(parts)} cannot be written to a file: {type(error).__name__}: {error}. Open connections, "
                "files, locks and generators inside the function that uses them, not outside."
            ) from error


def project_modules(root: Path) -> list[ModuleType]:
    """The imported modules whose files are below ``root``, not counting what is installed there (.venv)."""
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")]
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in ("__main__", "__mp_main__") or name.partition(".")[0] == "passerelle" or not file:
            continue
        path = Path(file).resolve()
        if not path.is_relative_to(root) or any(path.is_relative_to(folder) for folder in installed):
            continue
        if "site-packages" not in path.parts:
            found.append(module)
    return found


@contextmanager
def _by_value(root: Path) -> Iterator[None]:
    registered = []
    for module in project_modules(root.resolve()):
        if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _culprit(parts: Mapping[str, Any]) -> str:
    for name, part in parts.items():
        if _fails(part):
            inside = _global_that_fails(part) if isinstance(part, FunctionType) else None
            return f"{inside}, which {name} reads," if inside else name
    return "the submission"


def _global_that_fails(function: FunctionType) -> str | None:
    for name in function.__code__.co_names:
        if name in function.__globals__ and _fails(function.__globals__[name]):
            return repr(name)
    return None


def _fails(part: Any) -> bool:
    try:
        cloudpickle.dumps(part)
    except Exception:  # noqa: BLE001  (a library's object may raise anything)
        return True
    return False
