"""Rules: what is watched, at which level, from which threshold on, and what to do then; [[rules]] changes them."""

from __future__ import annotations

from typing import Literal

import msgspec

from passerelle.project.settings import Project, Watch

Level = Literal["page", "ticket", "off"]


class WatchRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it holds for a project."""

    watch: Watch
    #: page: somebody is called; ticket: it stands on the timeline and the dashboard; off: it is not watched.
    level: Level
    #: In ``unit``; None: learned from the environment's own past, or there is nothing to set.
    threshold: float | None
    unit: str
    #: The next action that the alert names.
    action: str


#: Every rule there is, by what it watches. docs/monitoring.md lists them with their meaning.
DEFAULTS: dict[Watch, WatchRule] = {
    rule.watch: rule
    for rule in (
        WatchRule(
            watch="performance",
            level="page",
            threshold=365.0,
            unit="days between two false alarms, at least",
            action="Look at the days that are named. If the world was abnormal (a storm), warn whoever uses the scores "
            "and wait; if it began with a new version, `passerelle rollback`; else deliver new data and retrain.",
        ),
        WatchRule(
            watch="volume",
            level="page",
            threshold=2.0,
            unit="times fewer or more events than on the same days of the weeks before",
            action="Ask whoever sends the events whether a source stopped or sends twice; "
            "`passerelle ledger` counts repeats.",
        ),
        WatchRule(
            watch="latency",
            level="page",
            threshold=1000.0,
            unit="milliseconds, of the slowest request in a hundred",
            action="Look at the machine's load and at the newest revision: "
            "`passerelle rollback` if it began with that revision, else serve with more workers.",
        ),
        WatchRule(
            watch="errors",
            level="page",
            threshold=1.0,
            unit="percent of the events or requests",
            action="Read the reason in `passerelle ledger` or the endpoint's log; `passerelle rollback` "
            "if it began with the newest revision; if callers send what the schema refuses, tell them the field.",
        ),
        WatchRule(
            watch="silence",
            level="page",
            threshold=None,
            unit="minutes without an event",
            action="Ask the endpoint for /ready and start it if it does not answer (`passerelle up`); "
            "if it does, ask whoever sends the events.",
        ),
        WatchRule(
            watch="score_drift",
            level="ticket",
            threshold=1000.0,
            unit="days between two false alarms, at least",
            action="Compare with the drift of the inputs: if an input changed, see there; if none did, look at what "
            "the version reads that is not an input (code, tables). The loss says in some days whether it matters.",
        ),
        WatchRule(
            watch="input_drift",
            level="ticket",
            threshold=1000.0,
            unit="days between two false alarms, at least",
            action="Ask the owner of the fields that are named whether a unit or a meaning changed; if it is the "
            "season, nothing is to be done: the next retraining learns it.",
        ),
        WatchRule(
            watch="quarantine",
            level="ticket",
            threshold=None,
            unit="",
            action="Open the report that is named, have the delivery corrected, and `passerelle ingest` it.",
        ),
        WatchRule(
            watch="ledger",
            level="ticket",
            threshold=None,
            unit="",
            action="Read the note beside the file that is named, in the ledger's folder damaged/. A writer that was "
            "killed leaves an unfinished last frame, which held nothing acknowledged; anything else is a failing disk.",
        ),
        WatchRule(
            watch="loop",
            level="ticket",
            threshold=None,
            unit="",
            action="Mend what the sentence names; the step is taken again at every tick.",
        ),
    )
}


def rule_of(project: Project, watch: Watch) -> WatchRule:
    """The rule that holds for a project: the default, with what its [[rules]] change.

    >>> from passerelle.project.settings import ProjectSection, Rule, Task
    >>> task = Task(kind="binary", target="late", key=("id",))
    >>> project = Project(
    ...     project=ProjectSection(name="flights"), task=task, rules=(Rule(watch="latency", threshold=250.0),)
    ... )
    >>> rule_of(project, "latency").threshold, rule_of(project, "latency").level
    (250.0, 'page')
    """
    rule = DEFAULTS[watch]
    for change in project.rules:
        if change.watch == watch:
            rule = msgspec.structs.replace(
                rule,
                level=change.level or rule.level,
                threshold=rule.threshold if change.threshold is None else change.threshold,
                action=change.action or rule.action,
            )
    return rule
