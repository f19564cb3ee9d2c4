"""Shared: work on what the machines of a project have in common, by hand as by the delivery chain: one way for both.

Three variables name it: PASSERELLE_STATE_URL, PASSERELLE_REGISTRY_URI, PASSERELLE_STORE. With all of them the files are
brought down from the store before the work and put up after it; without them the work is this machine's alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from passerelle.deployment.spec import Revisions, environment_folder
from passerelle.errors import SettingsError
from passerelle.project.settings import FILE, Project
from passerelle.state import postgresql, sharing

REGISTRY = "PASSERELLE_REGISTRY_URI"
NEEDED = (postgresql.VARIABLE, REGISTRY, sharing.VARIABLE)

#: "works": after whoever works on the same project now. "hurries": waits for nobody, as a roll-back. "looks": nothing
#: is kept of what it makes. "erases": works, and what the files do not have any more goes from the store, too.
Way = Literal["works", "hurries", "looks", "erases"]

#: How each service says that a change is only proposed (a pull request): it shares nothing.
_PROPOSED = (
    ("GITHUB_EVENT_NAME", "pull_request"),
    ("CI_PIPELINE_SOURCE", "merge_request_event"),
    ("BUILD_REASON", "PullRequest"),
)
#: How long one waits for another that works on the same project.
_WAIT_S = 1800.0


def shared_at() -> str | None:
    """The store's address if all three places are named; None if none is, and for a change that is only proposed.

    Raises SettingsError if some of them are named.
    """
    if any(os.environ.get(variable) == value for variable, value in _PROPOSED):
        return None
    missing = [one for one in NEEDED if not os.environ.get(one)]
    if not missing:
        return os.environ[sharing.VARIABLE]
    if {postgresql.VARIABLE, sharing.VARIABLE} <= set(missing):
        return None
    verb = "is" if len(missing) == 1 else "are"
    raise SettingsError(
        f"{' and '.join(missing)} {verb} not set: machines share all three of {', '.join(NEEDED)}, or nothing."
    )


@contextmanager
def at_work(project: Project, way: Way = "works") -> Iterator[str | None]:
    """Work on what is shared while the block runs; yields what to tell of it, or None: nothing is shared.

    Raises SettingsError as shared_at does, and what sharing.shared raises.
    """
    at = shared_at()
    if at is None:
        yield None
        return
    wait_s = None if way in ("hurries", "looks") else _WAIT_S
    with sharing.shared(
        project.state, project.name, at, wait_s=wait_s, keep=way != "looks", erase=way == "erases"
    ) as share:
        told = f"Shared: {project.name}, begun at head {share.number} of the store."
        if share.busy is not None:
            told = (
                f"Shared: {project.name}, as of head {share.number} of the store, and not newer: this folder is being "
                f"worked in ({share.busy})"
            )
        if share.aside:
            told += (
                f" {len(share.aside)} files that the store does not have, such as {share.aside[0]}, were moved to "
                f"{project.state / sharing.ASIDE}: look whether they are still needed."
            )
        yield told


def refuse_shared(verb: str) -> None:
    """Raise SettingsError for a verb that goes on for long on one machine's files, where machines share them."""
    if shared_at() is not None:
        raise SettingsError(
            f"passerelle {verb} works on the files of one machine, and {sharing.VARIABLE} says that machines share "
            "them: the delivery chain's jobs judge and retrain do the loop's work there. Unset the three variables "
            f"({', '.join(NEEDED)}), or leave it to the chain."
        )


def refuse_lost_ledger(project: Project, environment: str) -> None:
    """Raise SettingsError for an endpoint whose ledger would stay on this machine, where machines share their files.

    Nothing puts it up while it is written, and what it wrote is moved aside when the next verb comes into step.
    """
    if shared_at() is None:
        return
    current = Revisions(environment_folder(project.state, environment)).current()
    if current is not None and current.ledger != "off" and current.ledger_at is None:
        raise SettingsError(
            f"passerelle serve would record {environment}'s predictions on this machine alone, and {sharing.VARIABLE} "
            f"says that machines share their files: add a target of {environment} to {FILE}, whose store keeps the "
            f"ledger, or unset the three variables ({', '.join(NEEDED)})."
        )
