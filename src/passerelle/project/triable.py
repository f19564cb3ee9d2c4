"""Triable: refuses settings of [trial] that are right each by itself, and that no trial could be held by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from passerelle.errors import SettingsError

DAYS_OF_A_WEEK = 7
#: Fewer weeks decide nothing, whatever they say: the test of means asks for six at 5 % (docs/trial.md).
FEWEST_WEEKS = 6


class Guarding(Protocol):
    """What [[trial.guardrails]] says."""

    @property
    def watch(self) -> str:
        """What must not get worse."""

    @property
    def limit_ms(self) -> float | None:
        """Of latency: the objective."""


class Said(Protocol):
    """What [trial] says, as settings.Trial has it."""

    @property
    def mode(self) -> str:
        """A shadow or a split."""

    @property
    def steps(self) -> tuple[float, ...]:
        """The shares of a split, one after the other."""

    @property
    def guardrails(self) -> Sequence[Guarding]:
        """What must not get worse either."""

    @property
    def cap(self) -> float | None:
        """The largest loss of one event that counts in full."""

    @property
    def evidence(self) -> str:
        """What is one observation."""

    @property
    def unit_days(self) -> int:
        """Of units: the days that are a unit's value."""

    @property
    def min_days(self) -> int:
        """The days of evidence before the first verdict."""

    @property
    def max_days(self) -> int:
        """The days after which a trial ends."""


def refuse_untriable(trial: Said, *, loss: str, unit: str | None, path: Path) -> None:
    """Raise SettingsError for a [trial] that no trial could be held by. ``unit``: task.unit."""
    bounded = loss in ("brier", "zero_one") or trial.cap is not None
    if trial.evidence in ("rows", "units") and not bounded:
        raise SettingsError(
            f"{path}: trial.evidence = {trial.evidence!r} needs a bounded loss, and {loss!r} is not: say "
            "trial.cap, the largest loss of one event that counts in full, or leave the days as the unit of evidence."
        )
    if trial.evidence == "units" and unit is None:
        raise SettingsError(
            f"{path}: trial.evidence is 'units', and task.unit does not say who they are: name the input field, or "
            'say evidence = "rows" if every event is somebody else.'
        )
    if trial.evidence == "units" and trial.steps:
        raise SettingsError(
            f"{path}: trial.evidence is 'units' and trial.steps move units to the challenger: those that move are "
            'observed for a shorter time than those that stay. Leave the steps out, or say evidence = "days".'
        )
    if trial.evidence == "weeks" and trial.max_days < DAYS_OF_A_WEEK * FEWEST_WEEKS:
        raise SettingsError(
            f"{path}: trial.max_days is {trial.max_days}, and no verdict on weeks comes before {FEWEST_WEEKS} of them: "
            f"say {DAYS_OF_A_WEEK * FEWEST_WEEKS} or more."
        )
    if trial.evidence == "units" and trial.unit_days >= trial.max_days:
        raise SettingsError(
            f"{path}: trial.unit_days is {trial.unit_days} and trial.max_days {trial.max_days}: no unit would be "
            "complete. Say fewer days of a unit, or more in all."
        )
    if trial.steps and trial.mode == "shadow":
        raise SettingsError(
            f"{path}: trial.steps are shares of a split, and trial.mode is 'shadow', which answers nobody: "
            'say mode = "split", or leave the steps out.'
        )
    if list(trial.steps) != sorted(set(trial.steps)):
        raise SettingsError(
            f"{path}: trial.steps are {list(trial.steps)}: let each share be larger than the one before."
        )
    if trial.min_days > trial.max_days:
        raise SettingsError(
            f"{path}: trial.min_days is {trial.min_days} and trial.max_days {trial.max_days}: every trial would end "
            "before its first verdict. Say fewer days before the first, or more in all."
        )
    for guardrail in trial.guardrails:
        _refuse_guardrail(guardrail, trial.mode, path)


def _refuse_guardrail(guardrail: Guarding, mode: str, path: Path) -> None:
    if guardrail.watch != "latency":
        if guardrail.limit_ms is not None:
            raise SettingsError(
                f"{path}: limit_ms belongs to a guardrail on latency, and this one of [[trial.guardrails]] watches "
                f'{guardrail.watch!r}: leave limit_ms out, or say watch = "latency".'
            )
        return
    if guardrail.limit_ms is None:
        raise SettingsError(
            f"{path}: the guardrail on latency in [[trial.guardrails]] says no limit_ms: name the milliseconds after "
            "which an answer is too slow."
        )
    if mode == "shadow":
        raise SettingsError(
            f"{path}: [[trial.guardrails]] watches the latency, and trial.mode is 'shadow': a shadow is scored beside "
            'the serving path, where nobody waits for it. Say mode = "split" (steps = [...] begin with a small share), '
            "or leave that guardrail out."
        )
