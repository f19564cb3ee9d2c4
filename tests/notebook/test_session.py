"""By hand, in a folder of a project: the handout is made by the interpreter that the project's state records."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trips_project import MakeProject, hand_out

CODE = """
import sys
print(sorted(name for name in ("numpy", "pandas", "msgspec", "cloudpickle", "click") if name in sys.modules))
import passerelle
print(sorted(name for name in ("numpy", "pandas", "msgspec", "cloudpickle", "click") if name in sys.modules))

class Line:
    def predict(self, X):
        return X["hour"] * 2.0

raw = passerelle.training_data()
passerelle.submit(Line(), raw[["hour"]])
passerelle.submit(Line(), raw[["hour"]].head(30))
heavy = {"sklearn", "deltalake", "nbclient", "papermill", "jupytext", "mlflow", "duckdb", "rich", "cryptography"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture
def project(make_project: MakeProject, tmp_path: Path) -> Path:
    made, _ = make_project("1", task="regression")
    hand_out(tmp_path / "prepared", "regression")
    made.state.mkdir()
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(
        f'#!/bin/sh\ntest "$1 $2 $3" = "-m passerelle handout" || exit 9\nmkdir -p "$4"\nrm -rf "$4/handout"\n'
        f'cp -r {tmp_path}/prepared/handout "$4/"\n'
    )
    interpreter.chmod(0o755)
    (made.state / "python").write_text(f"{interpreter}\n")
    return made.root


def run(root: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PASSERELLE_RUN"}
    (root / "notebooks" / "by_hand.py").write_text(code)
    command = [sys.executable, "by_hand.py"]
    return subprocess.run(command, cwd=root / "notebooks", env=environment, capture_output=True, text=True, check=False)


def test_by_hand_the_calls_do_the_same_and_a_second_submit_replaces(project: Path) -> None:
    done = run(project, CODE)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == lines[1] == "[]"
    assert lines[2] == "passerelle: trips: 420 rows, 8 columns; 100 rows held out"
    assert done.stdout.count("It replaces what was submitted before.") == 1
    assert lines[-1] == "[]"
    folder = project / ".passerelle" / "by-hand"
    assert sorted(path.name for path in folder.iterdir()) == ["handout", "submission"]
    assert '"rows": 30' in (folder / "submission" / "submission.json").read_text()


def test_by_hand_a_handout_that_cannot_be_made_says_why(project: Path) -> None:
    (project / ".passerelle" / "python").write_text("/no/such/python\n")
    done = run(project, "import passerelle\npasserelle.training_data()")
    assert "/no/such/python, which" in done.stderr
    (project / ".passerelle" / "python").write_text("/bin/false\n")
    assert "no data could be handed out" in run(project, "import passerelle\npasserelle.training_data()").stderr
    os.remove(project / "passerelle.toml")  # noqa: PTH107  (as a user does)
    assert "no passerelle.toml in" in run(project, "import passerelle\npasserelle.training_data()").stderr
