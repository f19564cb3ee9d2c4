from __future__ import annotations

import hashlib
from pathlib import Path

import nbformat
import pytest

from passerelle.errors import NotebookError, SettingsError
from passerelle.notebook.source import read_source, with_parameters

SCRIPT = '# %% tags=["parameters"]\ntrees = 10\nfull = False\n\n# %% [markdown]\n# A title\n\n# %%\nprint(trees)\n'


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(SCRIPT)
    return path


def test_a_script_is_a_notebook(script: Path) -> None:
    source = read_source(script)
    assert source.language == "python"
    assert source.sha256 == hashlib.sha256(SCRIPT.encode()).hexdigest()
    assert [cell.cell_type for cell in source.node.cells] == ["code", "markdown", "code"]


def test_parameters_are_set_after_their_cell(script: Path) -> None:
    source = read_source(script)
    node = with_parameters(source, {"trees": 7})
    assert node.cells[1].source == "# From passerelle.toml\ntrees = 7\n"
    assert len(source.node.cells) == 3
    with pytest.raises(SettingsError, match=r"does not set 'tres': did you mean 'trees'\?"):
        with_parameters(source, {"tres": 7})
    with pytest.raises(SettingsError, match="does not set 'colour': it sets trees, full"):
        with_parameters(source, {"colour": 7})


def test_parameters_without_their_cell_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("trees = 1")]), path)
    with pytest.raises(SettingsError, match=r"no cell of model\.ipynb has the tag 'parameters'"):
        with_parameters(read_source(path), {"trees": 7})


def test_what_is_no_python_notebook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_source(tmp_path / "gone.ipynb")
    with pytest.raises(SettingsError, match="is no notebook"):
        read_source(tmp_path / "model.txt")
    (tmp_path / "broken.ipynb").write_text('{"cells": [')
    with pytest.raises(NotebookError, match="not a notebook that can be read"):
        read_source(tmp_path / "broken.ipynb")
    (tmp_path / "model.Rmd").write_text("# Title\n\n```{r}\nx <- 1\n```\n")
    with pytest.raises(NotebookError, match="is written in R"):
        with_parameters(read_source(tmp_path / "model.Rmd"), {})
