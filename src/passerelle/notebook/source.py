"""Source: a notebook as it was written (.ipynb, or .py, .Rmd, .qmd as jupytext reads them), and its parameters."""

from __future__ import annotations

import ast
import copy
import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import msgspec
import nbformat
from papermill.parameterize import parameterize_notebook

from passerelle.errors import NotebookError, SettingsError

_PARAMETERS = "parameters"
_SUFFIXES = (".ipynb", ".py", ".Rmd", ".qmd", ".md")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A notebook as it was written."""

    path: Path
    #: What its cells are written in: "python", "R" ...
    language: str
    #: Of the file's bytes.
    sha256: str
    #: The notebook itself, as nbformat 4 has it; nobody changes it.
    node: Any


def read_source(path: Path) -> Source:
    """Read a notebook. Raises SettingsError if there is none, NotebookError if it cannot be read or is not Python."""
    if path.suffix not in _SUFFIXES:
        raise SettingsError(f"{path} is no notebook: [notebook] path names one of {', '.join(_SUFFIXES)}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): correct [notebook] path.") from error
    try:
        if path.suffix == ".ipynb":
            node = nbformat.reads(data.decode("utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        else:
            node = jupytext.reads(data.decode("utf-8"), fmt=path.suffix)
    except Exception as error:
        raise NotebookError(f"{path} is not a notebook that can be read: {error}. Save it again.") from error
    return Source(path=path, language=_language(node), sha256=hashlib.sha256(data).hexdigest(), node=node)


def _language(node: Any) -> str:
    metadata = node.metadata
    said = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name")
    language = said or metadata.get("jupytext", {}).get("main_language") or "python"
    return "R" if language in ("r", "R", "ir") else str(language).lower()


def with_parameters(source: Source, parameters: Mapping[str, Any]) -> Any:
    """The notebook with a cell after the one tagged "parameters" that sets these, as papermill does; a copy.

    Raises SettingsError for a parameter that the cell does not set, naming those that it does, and NotebookError for
    a notebook that is not Python.
    """
    if source.language != "python":
        raise NotebookError(f"{source.path} is written in {source.language}: Passerelle runs Python notebooks for now.")
    node = copy.deepcopy(source.node)
    if not parameters:
        return node
    known = _parameters(node)
    if known is None:
        raise SettingsError(
            f"[notebook] parameters sets {next(iter(parameters))!r}, and no cell of {source.path.name} has the tag "
            f"{_PARAMETERS!r}: tag the cell that sets it."
        )
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else f"it sets {', '.join(known) or 'nothing'}."
            raise SettingsError(f"the cell tagged {_PARAMETERS!r} in {source.path.name} does not set {name!r}: {hint}")
    node.metadata["papermill"] = {}
    for cell in node.cells:
        cell.metadata.setdefault("tags", [])  # papermill reads them without asking
    return parameterize_notebook(
        node, dict(parameters), comment="From passerelle.toml", kernel_name="python3", language="python"
    )


def _parameters(node: Any) -> list[str] | None:
    """The names that the cell tagged "parameters" sets; None if there is no such cell."""
    for cell in node.cells:
        if _PARAMETERS in cell.metadata.get("tags", ()):
            try:
                tree = ast.parse(cell.source)
            except SyntaxError as error:
                raise NotebookError(f"the cell tagged {_PARAMETERS!r} is not Python: {error}.") from error
            stored = (part for part in ast.walk(tree) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
            return list(dict.fromkeys(part.id for part in stored))
    return None
