"""A notebook in a cloud: a fresh clone, variables and the bucket; its two calls do what the pipeline's run does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
from bucket_project import SETTINGS, delays, trips

from passerelle.adapters.objectstore import open_store
from passerelle.loop.train import registry_of
from passerelle.notebook.submission import read_answers
from passerelle.project.settings import Project, load_project

pytest_plugins = ["store_fixtures"]
CELLS = [
    "import passerelle\nfrom sklearn.linear_model import LogisticRegression",
    "raw = passerelle.training_data()\nX = raw[['distance']]",
    "model = LogisticRegression().fit(X, raw['late'])",
    "passerelle.submit(model, X=X)",
]
#: As Studio, Workbench or a compute instance runs a notebook: a kernel in the notebook's folder.
EXECUTE = (
    "import nbformat, nbclient; book = nbformat.read('model.ipynb', as_version=4);"
    "nbclient.NotebookClient(book, kernel_name='python3', timeout=120).execute();"
    "print(*[out.get('text', '') for cell in book.cells for out in cell.outputs])"
)
#: By which a store is found, and who asks.
OF_THE_STORE = ("AWS_", "AZURE_", "AZURITE_", "GOOGLE_", "STORAGE_")


def clone(root: Path, address: str) -> Project:
    """What is in git: settings and notebook. No data, no state."""
    (root / "notebooks").mkdir(parents=True)
    (root / "passerelle.toml").write_text(SETTINGS.format(address=address))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbformat.write(book, root / "notebooks" / "model.ipynb")
    return load_project(root / "passerelle.toml")


def on_a_machine(home: Path, folder: Path, *command: str) -> str:
    """A command where there is nothing but the clone and the store's variables; what it printed."""
    home.mkdir(exist_ok=True)
    variables = {name: value for name, value in os.environ.items() if name.startswith(OF_THE_STORE)}
    variables |= {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_two_calls_in_a_cloud_and_the_version_of_the_control_plane(
    cloud: str, address: str, tmp_path: Path
) -> None:
    at = open_store(address)
    at.put("2013-02-01/trips.csv", trips(0, 240))
    at.put("2013-02-01/delays.csv", delays(0, 240))
    there = clone(tmp_path / "there", address)
    for _ in range(2):  # the second look finds it settled
        on_a_machine(tmp_path / "studio", there.root, "-m", "passerelle", "ingest")
    said = on_a_machine(tmp_path / "studio", there.root / "notebooks", "-c", EXECUTE)
    assert "rows" in said
    by_hand = read_answers(there.state / "by-hand" / "submission" / "golden.msgpack")
    assert len(by_hand.outputs) > 20
    assert "2013-02-01/trips.csv" in {found.key for found in at.list()}

    if cloud != "s3":  # from here on no store is asked that was not asked before
        return
    here = clone(tmp_path / "here", address)
    for _ in range(2):
        on_a_machine(tmp_path / "control", here.root, "-m", "passerelle", "ingest")
    on_a_machine(tmp_path / "control", here.root, "-m", "passerelle", "train")
    (version,) = registry_of(here).versions()
    made = read_answers(here.state / "runs" / version.tags["run"] / "submission" / "golden.msgpack")
    assert made.inputs.keys() == by_hand.inputs.keys()
    assert np.abs(made.outputs - by_hand.outputs).max() <= 1e-12
