"""Provenance: what a run depends on, as one key, so that it is found before it is made again."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from passerelle.data.contract import contract_path
from passerelle.data.table import Snapshot
from passerelle.errors import SettingsError
from passerelle.notebook.run import notebook_python
from passerelle.project.settings import Project

_PACKAGES = """
import importlib.metadata, sys
print(sys.version, *sorted({f"{one.name}=={one.version}" for one in importlib.metadata.distributions()}))
"""


def run_key(project: Project, taken: Snapshot, notes: Sequence[str]) -> str:
    """The same for the same notebook, code beside it, settings, contract, packages and data.

    ``notes`` are the handout's, which count what is not mature yet: the same snapshot gives more rows tomorrow.
    """
    notebook, modules, contract = _files(project)
    parts = (
        notebook,
        modules,
        contract,
        _packages(notebook_python(project)),
        (project.notebook, project.task, project.data, project.privacy, project.assumed_costs),
        taken.tables,
        notes,
    )
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:20]


def code_digest(project: Project) -> str:
    """The same for the same notebook, code beside it, settings and contract: what a person changes. Quick."""
    parts = (*_files(project), project.notebook, project.task, project.data, project.privacy, project.assumed_costs)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:20]


def _files(project: Project) -> tuple[str, dict[str, str], str | None]:
    """The digests of the notebook, of the modules beside it, and of contract.toml."""
    contract = contract_path(project)
    return (
        file_digest(project.root / project.notebook.path),
        {str(path.relative_to(project.root)): file_digest(path) for path in module_paths(project.root)},
        file_digest(contract) if contract.exists() else None,
    )


def file_digest(path: Path) -> str:
    """The sha256 of a file of the project. Raises SettingsError if there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise SettingsError(f"there is no {path}: correct notebook.path in passerelle.toml.") from error


def code_version(root: Path) -> str | None:
    """The commit of the project's code, "+changed" if the checkout has changes; None outside git."""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changed" if _git(root, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def module_paths(root: Path) -> Iterator[Path]:
    """The project's own modules, which a notebook may import; not its environments, tests or hidden folders."""
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.name.startswith((".", "_")) and not (path / "pyvenv.cfg").exists():
            yield from (() if path.name in ("tests", "deliveries") else module_paths(path))
        elif path.suffix == ".py":
            yield path


def _packages(python: str) -> str:
    """What is installed in the notebook's environment, and its Python."""
    done = subprocess.run([python, "-I", "-c", _PACKAGES], capture_output=True, text=True, check=False)  # noqa: S603  (the project's own interpreter)
    return done.stdout.strip()


def _git(root: Path, *arguments: str) -> str:
    git = shutil.which("git") or "git"
    return subprocess.run([git, "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603  (our own arguments)
