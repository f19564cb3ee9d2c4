"""Whose account it is, what it may cost, and what of an earlier run is still there.

Each run puts a mark into the target's store before it makes anything, ``<store>/live-<random>/mark``, by which clear.py
finds what a run left that could not clear away itself; what it made besides is found by the project's tag, as always.
"""

from __future__ import annotations

import os
import re
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from living import FIRST, SETTINGS, make_project

from passerelle.adapters.objectstore import Store, open_store
from passerelle.deployment.applying import apply_deployment, open_target
from passerelle.loop.rollout import PRODUCTION
from passerelle.project.settings import FILE, Project, load_project

BUDGET = "PASSERELLE_LIVE_BUDGET"
MARK = "mark"
PREFIX = "live-"
#: While a revision changes two sets of machines run.
SETS = 2


@dataclass(frozen=True, kw_only=True)
class Account:
    """The settings of a live run."""

    #: Name → [targets.NAME].
    targets: dict[str, dict[str, Any]]
    #: Of an hour of the dearest machine that a target starts, in the budget's currency.
    price_per_hour: float
    #: After which a target's test ends.
    minutes: float

    @property
    def most(self) -> float:
        """What all of it may cost: for each target two sets of machines and one that trains, until the time is over."""
        machines = sum(1 + SETS * int(one.get("scaling", {}).get("maximum", 1)) for one in self.targets.values())
        return machines * self.price_per_hour * self.minutes / 60

    def refuse_over_budget(self) -> None:
        """Raise UsageError if no budget is set, or it may not last."""
        text = os.environ.get(BUDGET, "")
        if not re.fullmatch(r"\d+(\.\d+)?", text):
            raise pytest.UsageError(f"{BUDGET} is {text!r}: say how much this may cost, as a number.")
        budget = float(text)
        if self.most > budget:
            raise pytest.UsageError(
                f"this may cost {self.most:.2f} ({self.minutes:g} minutes at {self.price_per_hour:g} an hour), and "
                f"{BUDGET} is {budget:g}: raise it, or ask fewer or smaller targets for a shorter time."
            )


def read_account(path: Path) -> Account:
    """The settings of a file."""
    found = tomllib.loads(path.read_text())
    live = found["live"]
    return Account(targets=found["targets"], price_per_hour=live["price_per_hour"], minutes=live["minutes"])


def new_name() -> str:
    """A project's name that nobody has."""
    return f"{PREFIX}{secrets.token_hex(4)}"


def project_in(folder: Path, name: str, target: dict[str, Any]) -> Project:
    """A project of this name, whose one target is ``cloud``, with a folder of its own in the target's store."""
    make_project(folder)
    own = target | {"store": f"{target['store']}/{name}"}
    text = SETTINGS.replace('name = "orders"', f'name = "{name}"').replace("[loop]", '[loop]\ntrains_at = "cloud"')
    (folder / FILE).write_text(text + tomlkit.dumps({"targets": {"cloud": own}}))
    return load_project(folder / FILE)


def mark(project: Project) -> None:
    """Say in the store that something is about to be made."""
    store_of(project).put(MARK, f"{FIRST:%Y}".encode())


def store_of(project: Project) -> Store:
    """The project's own folder in the store."""
    return open_store(project.targets["cloud"].store)  # type: ignore[union-attr]


def clear(project: Project) -> None:
    """Leave nothing: jobs that run, what serves, and last the objects, of which the mark is the very last."""
    target: Any = open_target(project, "cloud")
    at = store_of(project)
    runs = {parts[2] for found in at.list("runs") if len(parts := found.key.split("/")) > 2}
    for run in runs:
        target.stop(run)
    apply_deployment(target, None, PRODUCTION)
    for found in sorted(at.list(), key=lambda one: one.key == MARK):
        at.delete(found.key)


def leftovers(account: Account, folder: Path) -> list[str]:
    """Remove what earlier runs left; their names."""
    found = []
    for target in account.targets.values():
        marks = [one.key.split("/") for one in open_store(target["store"]).list()]
        for name in sorted({parts[0] for parts in marks if parts[0].startswith(PREFIX) and parts[-1] == MARK}):
            clear(project_in(folder / name, name, target))
            found.append(name)
    return found
