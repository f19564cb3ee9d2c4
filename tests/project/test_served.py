from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from passerelle.project.served import served
from passerelle.project.settings import Gate, Notebook, Project, ProjectSection, Serving, Task, load_project

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(target=TEXT, key=st.lists(TEXT, min_size=1, max_size=3), rows=st.integers(1, 2**31))
def test_what_is_served_is_read_back_and_nothing_else_travels(target: str, key: list[str], rows: int) -> None:
    project = Project(
        project=ProjectSection(name="orders", language="fr"),
        task=Task(kind="multiclass", target=target, key=tuple(key), time="at", holdout_days=3),
        serving=Serving(host="10.0.0.1", port=1, workers=3, deadline_ms=7, max_rows=rows, max_body_bytes=11),
        gate=Gate(margin=0.5),
        notebook=Notebook(parameters={"password": "hunter2"}),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "passerelle.toml"
        path.write_bytes(served(project))
        assert load_project(path) == Project(
            project=ProjectSection(name="orders"),
            task=Task(kind="multiclass", target=target, key=tuple(key)),
            serving=Serving(workers=3, deadline_ms=7, max_rows=rows, max_body_bytes=11),
            root=Path(folder).resolve(),
        )
