"""What a person with an admin token may do about an alert from its page: what ``passerelle alerts`` does, no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import get_args

from passerelle.errors import StateError
from passerelle.monitoring import handling, marking
from passerelle.monitoring.alerts import Alert, find_alerts
from passerelle.project.settings import Project, Watch
from passerelle.state.database import open_state

_MOST_WORDS = 300
#: How long a watch may be silenced from a page, in hours; passerelle alerts silence takes any time up to 30 days.
HOURS = {"1": "1 hour", "4": "4 hours", "24": "1 day", "168": "7 days"}

_Act = Callable[[Project, str, Mapping[str, str], str, datetime], object]


def _acknowledge(project: Project, environment: str, form: Mapping[str, str], by: str, now: datetime) -> None:
    alert = _open(project, environment, form)
    handling.acknowledge(project, alert.id, by=by, note=_words(form, "note"), now=now)


def _silence(project: Project, environment: str, form: Mapping[str, str], by: str, now: datetime) -> None:
    hours = form.get("hours", "")
    if hours not in HOURS:
        raise StateError(f"A silence from here lasts {', '.join(HOURS.values())}: nothing was done.")
    lasts = timedelta(hours=int(hours))
    reason = _words(form, "reason")
    handling.silence(project, environment, _watch(form), lasts=lasts, reason=reason, by=by, now=now)


def _unsilence(project: Project, environment: str, form: Mapping[str, str], by: str, now: datetime) -> None:
    handling.unsilence(project, environment, _watch(form), by=by, now=now)


def _normal(project: Project, environment: str, form: Mapping[str, str], by: str, now: datetime) -> None:
    marking.mark_normal(project, environment, _confirmed(project, environment, form), now, by=by)


def _incident(project: Project, environment: str, form: Mapping[str, str], by: str, now: datetime) -> None:
    marking.mark_incident(project, environment, _confirmed(project, environment, form), now, by=by)


#: What there is to do, by its name in the address.
ACTIONS: dict[str, _Act] = {
    "acknowledge": _acknowledge,
    "silence": _silence,
    "unsilence": _unsilence,
    "normal": _normal,
    "incident": _incident,
}


def _open(project: Project, environment: str, form: Mapping[str, str]) -> Alert:
    """The alert that the page showed, if it is still open. Raises StateError if not."""
    there = find_alerts(open_state(project.state), environment, open_only=True)
    found = next((one for one in there if one.id == form.get("alert")), None)
    if found is None:
        raise StateError("This alert is over since this page was read: nothing was done. Look again.")
    return found


def _confirmed(project: Project, environment: str, form: Mapping[str, str]) -> str:
    """The name of that alert, of what changes with which days later ones are compared."""
    if form.get("sure") != "yes":
        raise StateError("This changes what later days are compared with: tick that you are sure. Nothing was done.")
    return _open(project, environment, form).id


def _watch(form: Mapping[str, str]) -> Watch:
    """The watch that was named. Raises StateError for one that is none."""
    named = form.get("watch")
    watches: tuple[Watch, ...] = get_args(Watch)
    found = next((one for one in watches if one == named), None)
    if found is None:
        raise StateError(f"There is no watch {named!r}: nothing was done.")
    return found


def _words(form: Mapping[str, str], name: str) -> str:
    """A person's words, on one line."""
    words = " ".join(form.get(name, "").split())
    if len(words) > _MOST_WORDS:
        raise StateError(f"The {name} is longer than {_MOST_WORDS} characters: nothing was done.")
    return words
