"""Injecting: what a file holds, as the events that a caller of the endpoint would send."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec

from passerelle.load.events import is_events, read_events
from passerelle.loop.score import current, events_of
from passerelle.project.settings import Project
from passerelle.serving.events import Event


def events_to_send(project: Project, file: Path, *, environment: str) -> list[Event]:
    """The events of a file: JSON lines of events as they are, or rows in the file's order.

    Rows hold the model's fields, or are of the main table, joined with the accepted further tables by the ``events``
    function of the version that answers in the environment. A row is asked ``task.lead_hours`` before its own time.
    Raises DataError if it is neither, DeploymentError if nothing is deployed there.
    """
    if is_events(file):
        return read_events(file)
    lead = timedelta(hours=project.task.lead_hours)
    found = events_of(project, file, current(project, environment))
    return [event if event.at is None else msgspec.structs.replace(event, at=event.at - lead) for event in found]
