"""Forms: a compiled form of a submission's model, if it has one and it equals the model on every stored row."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from passerelle.bundle.compile import compile_form
from passerelle.bundle.describing import describe_submission
from passerelle.bundle.inline import equal
from passerelle.notebook.submission import Answers, Submission
from passerelle.project.settings import Project
from passerelle.schema import TOLERANCE


def write_form(
    submission: Path, submitted: Submission, project: Project, stored: Sequence[Answers], *, into: Path
) -> tuple[Path | None, str]:
    """The folder of the compiled form, or None; and a sentence for people that says which it is, and why."""
    described = into.with_name("described")
    shutil.rmtree(described, ignore_errors=True)
    reason = describe_submission(submission, python=submitted.python, task=project.task.kind, into=described)
    if reason is not None:
        return None, f"by the model's own process: {reason}"
    compile_form(described, into)
    worst = max(asyncio.run(equal(into, answers)) for answers in stored)
    if not worst <= TOLERANCE:
        return None, f"by the model's own process: the compiled form differs by {worst:.3g}"
    rows = sum(len(answers.outputs) for answers in stored)
    return (
        into,
        f"inline: a compiled form equals the model on all {rows:,} stored rows (largest difference {worst:.3g})",
    )
