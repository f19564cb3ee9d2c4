"""Scope: the [[milestones]] and [[acceptance]] sections of passerelle.toml, which the scoping note tells."""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec

Stage = Literal["scoped", "data", "trained", "deployed", "served", "judged"]


class Milestone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[milestones]]: a line of the plan."""

    name: str
    start: date
    end: date
    #: What shows that it is reached, read from the project's state.
    stage: Stage


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[acceptance]]: a figure that the project must reach."""

    name: str
    #: A metric of the champion on its holdout, or parity_max_abs_diff, as METRICS and OTHER_FIGURES list them.
    figure: str
    at_least: float | None = None
    at_most: float | None = None
