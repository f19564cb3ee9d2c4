"""A trial's end: what it found is one thing, what was done about it another."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import lived
import msgspec
import pytest
from shown import ask

from passerelle.dashboard.comparing import versions_page
from passerelle.dashboard.ending import done, ending
from passerelle.dashboard.pages import path_page
from passerelle.dashboard.reading import Reader, Seen
from passerelle.dashboard.trying import trial_page
from passerelle.project.settings import Project
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.trial import trials
from passerelle.trial.verdict import Record

GREEN = '<span class="badge good">PROMOTE</span>'


@pytest.fixture
def seen(project: Project) -> Seen:
    return Reader(project, "production").read()


def ended(seen: Seen, **changes: Any) -> Seen:
    """The newest trial, with the verdict of the one before it, which is PROMOTE, ended."""
    before, last = seen.trials[-2:]
    change: dict[str, Any] = {"status": "ended", "verdict": before.verdict, "ended_at": lived.NOW} | changes
    return msgspec.structs.replace(seen, trials=(*seen.trials[:-1], msgspec.structs.replace(last, **change)))


def sentence(seen: Seen) -> str:
    last: Record = seen.trials[-1]
    return trial_page(seen, last, last.verdict, (), now=lived.NOW).sentence


@pytest.mark.parametrize(
    ("execution", "revision", "told"),
    [
        ("a person refused the verdict, version 4 answers alone from revision 7", 7, "refused by a person"),
        ("a person stopped the trial, version 4 answers alone from revision 7", 7, "stopped by a person"),
        ("version 6 takes its place", None, "displaced by version 6"),
        ("a person made revision 9 meanwhile (x): it stands", None, "overtaken by a person's revision"),
    ],
)
def test_what_was_not_executed_is_nowhere_called_promoted(
    seen: Seen, execution: str, revision: int | None, told: str
) -> None:
    changed = ended(seen, execution=execution, revision=revision)
    first = f"Version 5 is proven no worse than version 4; the verdict was not executed: {told} on 27 June, after "
    assert sentence(changed).startswith(first)
    station = path_page(changed, now=lived.NOW).stations[3]
    assert (station.standing, station.sentence) == ("over", f"version 5: proven no worse, {told} 27 June")
    past = trial_page(changed, None, None, (), now=lived.NOW).past[0]
    assert (past.kind, past.done) == ("PROMOTE", told)


def test_what_could_not_be_executed_is_said_once(seen: Seen) -> None:
    changed = ended(seen, execution=None, revision=None)
    assert sentence(changed).startswith("Version 5 is proven no worse than version 4; not executed on 27 June, after ")


@pytest.mark.parametrize(
    ("execution", "revision", "told"),
    [
        ("a person refused the verdict, version 1 answers alone from revision 3", 3, "refused by a person"),
        ("a person made revision 3 meanwhile (x): it stands", None, "overtaken by a person's revision"),
        (None, None, None),
    ],
)
def test_a_promotion_that_was_not_executed_has_no_green_badge(
    tmp_path: Path, execution: str | None, revision: int | None, told: str | None
) -> None:
    project = lived.live(tmp_path, versions=2, days=1)
    (begun,) = trials.history(open_state(project.state), "production")
    key = begun.plan.id
    with writing(open_state(project.state)) as connection:
        connection.execute(tables.blocks.delete().where(tables.blocks.c.trial == key))
    decided = lived.decide(project, lived.fill(project, begun.plan, days=20, shift=-0.006), at=lived.NOW)
    assert decided.verdict is not None
    assert decided.verdict.kind == "PROMOTE"
    with ask(project) as client:
        assert GREEN in client.get(f"/trials/{key}").text  # it waits, and is as good as it says
    trials.end(open_state(project.state), key, at=lived.NOW, revision=revision, execution=execution)
    with ask(project) as client:
        text = client.get(f"/trials/{key}").text
    assert GREEN not in text
    card = re.search(r'<section class="card" aria-label="The verdict">\s*<p class="row">(.*?)</p>', text, re.DOTALL)
    assert card is not None
    first = " ".join(re.sub(r"<[^>]+>", " ", card[1]).split())
    assert html.unescape(first).startswith(f"PROMOTE not executed {told or ''}".strip())


def test_what_was_executed_is_said_as_it_was(seen: Seen) -> None:
    of = {record.plan.challenger: record for record in seen.trials}
    assert done(of[4], seen.revisions) == "promoted"
    assert done(of[3], seen.revisions) == "rolled back"
    assert "is no worse than version 2: promoted on " in ending(of[4], seen.revisions, days=14, now=lived.NOW)
    assert "is worse than version 2: rolled back on " in ending(of[3], seen.revisions, days=14, now=lived.NOW)


def test_a_version_that_was_refused_is_not_called_tried(seen: Seen) -> None:
    alone = msgspec.structs.replace(seen, revisions=seen.revisions[:7])
    refused = ended(alone, execution="a person refused the verdict, version 4 answers alone", revision=7)
    standings = {one.made.number: one.standing for one in versions_page(refused, now=lived.NOW).versions}
    assert standings[5] == "refused by a person"


def test_a_verdict_that_waits_is_said_with_the_day_of_its_proof_not_of_an_approval(seen: Seen) -> None:
    waiting = ended(seen, status="decided", decided_at=lived.NOW - lived.DAY, ended_at=None)
    loop = msgspec.structs.replace(seen.project.loop, approval="human")
    waiting = msgspec.structs.replace(waiting, project=msgspec.structs.replace(seen.project, loop=loop))
    days = waiting.trials[-1].verdict
    assert days is not None
    told = f"Version 5 is no worse than version 4: proven on 26 June after {days.blocks} days of evidence"
    assert sentence(waiting) == f"{told}; waits for a person."
    trial, production = path_page(waiting, now=lived.NOW).stations[3:5]
    assert trial.sentence == "version 5 in shadow, PROMOTE waits for a person"
    assert production.sentence.startswith("version 4 answers; version 5 in shadow; revision 8, ")
