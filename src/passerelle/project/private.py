"""Private columns: refuses what would show the values of a column that [privacy] hashes or drops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from passerelle.errors import SettingsError


def refuse_private(privacy: Mapping[str, str], *, key: Sequence[str], slices: Sequence[str], path: Path) -> None:
    """Raise SettingsError for a private column in task.key or monitoring.slices."""
    private = {name: how for name, how in privacy.items() if how != "keep"}
    for name in slices:
        if name in private:
            raise SettingsError(
                f"{path}: monitoring.slices names {name!r}, which privacy says to {private[name]}: a slice "
                "would show its values. Take it out of slices."
            )
    for name in key:
        if name in private:
            raise SettingsError(
                f"{path}: privacy.{name} is {private[name]!r}, and {name} is part of task.key, "
                "which is the id that predictions are recorded under: deliver another key, or keep it."
            )
