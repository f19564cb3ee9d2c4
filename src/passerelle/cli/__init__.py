"""The command line: thin verbs. Each finds the project, calls one room, and shows what it answered.

Exit codes: 0 done, 1 something failed, 2 wrong usage or settings, 3 refused by a check (data, skew, parity, gate).
"""

from passerelle.cli import (
    ci,
    image,
    load,
    production,
    project,
    targets,
    touring,
    training,
    trial_plan,
    trial_record,
    trying,
    up,
    watching,
)
from passerelle.cli.group import main

__all__ = [
    "ci",
    "image",
    "load",
    "main",
    "production",
    "project",
    "targets",
    "touring",
    "training",
    "trial_plan",
    "trial_record",
    "trying",
    "up",
    "watching",
]
