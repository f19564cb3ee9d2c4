"""Actions: what a person with an admin token may do from a page. Refused if what the page showed has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from passerelle.dashboard import alert_actions
from passerelle.errors import DeploymentError, PasserelleError, StateError
from passerelle.loop import rollout, trying
from passerelle.loop.train import registry_of
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry
from passerelle.state.database import open_state
from passerelle.trial import trials

_Decide = Callable[..., object]

_MOST_REASON = 300


def act(name: str, project: Project, environment: str, form: Mapping[str, str], *, by: str, now: datetime) -> None:
    """Do one of NAMES for a person, with the fields of its form: the trial, revision or alert that the page showed.

    Raises StateError or DeploymentError, and does nothing, if that is not what holds any more.
    """
    if name in alert_actions.ACTIONS:
        alert_actions.ACTIONS[name](project, environment, form, by, now)
    else:
        ACTIONS[name](project, registry_of(project), environment, form, now)


def _roll_back(project: Project, registry: Registry, environment: str, form: Mapping[str, str], now: datetime) -> None:
    """Go back to what answered before the revision that the page showed."""
    current = rollout.revisions(project, environment).current()
    if current is None or str(current.revision) != form.get("revision"):
        raise DeploymentError("Another revision was made since this page was read: nothing was done. Look again.")
    rollout.roll_back(project, environment=environment, reason=_reason(form), now=now)
    rollout.reconcile(project, registry)


def _on_trial(decide: _Decide) -> Callable[[Project, Registry, str, Mapping[str, str], datetime], None]:
    """What is done with the trial that the page showed."""

    def done(project: Project, registry: Registry, environment: str, form: Mapping[str, str], now: datetime) -> None:
        record = trials.current(open_state(project.state), environment)
        if record is None or record.plan.id != form.get("trial"):
            raise StateError("This trial has ended since this page was read: nothing was done. Look again.")
        decide(project, registry, environment=environment, now=now)

    return done


#: What there is to do about trials and revisions, by its name in the address.
ACTIONS: dict[str, Callable[[Project, Registry, str, Mapping[str, str], datetime], None]] = {
    "approve": _on_trial(trying.approve),
    "refuse": _on_trial(trying.refuse),
    "stop": _on_trial(trying.stop),
    "rollback": _roll_back,
}
#: Everything that there is to do.
NAMES = frozenset(ACTIONS) | frozenset(alert_actions.ACTIONS)


def _reason(form: Mapping[str, str]) -> str | None:
    """Why, in the person's words."""
    reason = " ".join(form.get("reason", "").split())
    if len(reason) > _MOST_REASON:
        raise PasserelleError(f"The reason is longer than {_MOST_REASON} characters: nothing was done.")
    return reason or None
