"""Apart: the project's own script, which computes what retraining without trials would have been worth, by other code.

It runs beside the tour, in a process of its own, and ends with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Self

from passerelle.errors import PasserelleError
from passerelle.project.settings import Project
from passerelle.tour.script import Script

#: A script that takes longer than this, once the tour waits for it, is given up.
_SCRIPT_S = 900


class Apart:
    """The script while it runs; ended with the with block."""

    def __init__(self, command: list[str] | None, project: Project) -> None:
        self._command = command
        self._root = project.root
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  (closed with the with block)

    def __enter__(self) -> Self:
        if self._command is not None:
            self._process = subprocess.Popen(  # noqa: S603  (the project's own script, as its notebook is)
                self._command, cwd=self._root, stdout=subprocess.PIPE, stderr=self._errors, text=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._errors.close()

    def instant(self) -> float | None:
        """What it found, waited for; None without a script. Raises PasserelleError if it fails."""
        if self._process is None or self._command is None:
            return None
        said, _ = self._process.communicate(timeout=_SCRIPT_S)
        if self._process.returncode:
            self._errors.seek(0)
            raise PasserelleError(f"{' '.join(self._command)} failed: {self._errors.read().strip()[-1000:]}")
        return float(json.loads(said.splitlines()[-1])["instant"])


def compute_apart(project: Project, script: Script, *, periods: list[str]) -> Apart:
    """The script that ``tour.toml`` names, to be started; none if the tour does not come to the period that counts."""
    value = script.value
    if value is None or value.script is None or not any(period >= value.since for period in periods):
        return Apart(None, project)
    return Apart([sys.executable, value.script, "--json", "--months", str(len(periods))], project)
