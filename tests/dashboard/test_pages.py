"""The page of the path now: its sentence, its stations and its next step, from made-up states."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import lived
import msgspec
import pytest

from passerelle.dashboard.comparing import versions_page
from passerelle.dashboard.lists import alerts_page, losses
from passerelle.dashboard.pages import first_verdict, path_page, since
from passerelle.dashboard.reading import Reader, Seen
from passerelle.project.settings import Project
from passerelle.state.timeline import Event
from passerelle.trial.verdict import Block


@pytest.fixture
def seen(project: Project) -> Seen:
    return Reader(project, "production").read()


def with_(seen: Seen, **changes: Any) -> Seen:
    return msgspec.structs.replace(seen, **changes)


def quiet(seen: Seen) -> Seen:
    return with_(seen, alerts=tuple(alert for alert in seen.alerts if alert.closed_at))


def test_nothing_is_wrong_is_said(seen: Seen) -> None:
    assert path_page(quiet(seen), now=lived.NOW).sentence.endswith("; nothing is wrong.")


def test_the_champion_is_it_since_it_came_without_a_break(seen: Seen) -> None:
    assert [one.revision for one in seen.revisions] == list(range(1, 9))
    assert since(seen.revisions) == seen.revisions[6].created_at
    assert since(seen.revisions[:4]) == seen.revisions[2].created_at
    assert since(seen.revisions[:2]) == seen.revisions[0].created_at
    assert since(()) is None


def test_the_year_is_said_where_it_is_another(seen: Seen) -> None:
    assert "since 30 May 2013;" in path_page(seen, now=lived.NOW + timedelta(days=400)).sentence


def test_the_first_verdict_is_due_when_its_day_is_mature(seen: Seen) -> None:
    record = seen.trials[-1]
    blocks = seen.blocks[record.plan.id]
    midnight = record.plan.started_at.replace(hour=0)
    # Its blocks begin on the day after it started.
    assert first_verdict(record, ()) == midnight + timedelta(days=15, hours=36)
    assert first_verdict(record, blocks[:5]) == midnight + timedelta(days=15, hours=36)
    assert first_verdict(record, blocks) == blocks[-1].start + timedelta(days=2, hours=36)
    of_weeks = msgspec.structs.replace(record, plan=msgspec.structs.replace(record.plan, unit="week", max_days=90))
    assert first_verdict(of_weeks, blocks[:5]) == midnight + timedelta(days=43, hours=36)
    of_units = msgspec.structs.replace(record, plan=msgspec.structs.replace(record.plan, unit="unit", unit_days=7))
    assert first_verdict(of_units, ()) == midnight + timedelta(days=21, hours=36)
    empty: Block = msgspec.structs.replace(blocks[4], rows=0, difference=None)
    assert first_verdict(record, (*blocks[:4], empty)) == midnight + timedelta(days=16, hours=36)


def test_what_the_loop_failed_at_is_wrong_until_it_works_again(seen: Seen) -> None:
    failed = Event(
        at=lived.NOW, kind="loop", subject="settings", sentence="the step settings failed: x", details={"problem": True}
    )
    page = path_page(with_(quiet(seen), events=(*seen.events, failed)), now=lived.NOW)
    assert page.sentence.endswith("; the loop does not get on (settings).")
    assert [one.sentence for one in page.problems] == ["The step settings failed: x"]
    assert "step settings failed" in page.next.sentence
    well = Event(at=lived.NOW, kind="loop", subject="settings", sentence="the step settings works again")
    page = path_page(with_(quiet(seen), events=(*seen.events, failed, well)), now=lived.NOW)
    assert page.sentence.endswith("; nothing is wrong.")
    assert page.problems == ()


def test_before_anything_answers_the_first_line_says_how_far_it_is(seen: Seen) -> None:
    trained = with_(quiet(seen), revisions=(), trials=())
    assert path_page(trained, now=lived.NOW).sentence == "Nothing answers in production yet: version 5 is made."
    new = with_(trained, versions=())
    assert path_page(new, now=lived.NOW).sentence == "Nothing answers in production yet: there is no version."


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"deliveries": ()}, "passerelle ingest"),
        ({"versions": ()}, "passerelle train"),
        ({"revisions": ()}, "passerelle deploy 5"),
        ({}, None),
    ],
)
def test_the_next_step_is_the_first_that_is_missing(seen: Seen, changes: dict[str, Any], command: str | None) -> None:
    assert path_page(with_(seen, **changes), now=lived.NOW).next.command == command


def test_a_page_is_seen_to_before_a_trial_and_a_ticket_is_not(seen: Seen) -> None:
    assert "each may bring the verdict" in path_page(seen, now=lived.NOW).next.sentence
    loud = tuple(msgspec.structs.replace(alert, level="page") for alert in seen.alerts)
    assert "See to the alert on input drift" in path_page(with_(seen, alerts=loud), now=lived.NOW).next.sentence


def test_days_of_a_performance_alert_are_marked_and_no_other(seen: Seen) -> None:
    assert [day.start for day in losses(seen) if day.alerting] == list(lived.STORMS)


def test_the_stability_index_is_shown_and_opens_nothing(seen: Seen) -> None:
    page = alerts_page(quiet(seen), now=lived.NOW)
    assert [one.name for one in page.drift] == ["temp", "carrier"]
    assert (page.drift[0].last or 0.0) > 0.1
    assert page.open == ()


def test_versions_stand_with_the_champion_first_and_what_became_of_each(seen: Seen) -> None:
    page = versions_page(seen, now=lived.NOW)
    assert [(one.made.number, one.standing) for one in page.versions] == [
        (4, "champion"),
        (5, "challenger"),
        (3, "rolled back"),
        (2, "former champion"),
        (1, "former champion"),
    ]
    assert page.metrics[0] == "log_loss"
    live = page.versions[2].live
    assert live is not None
    blocks = seen.blocks[live.trial]
    total = sum(block.rows for block in blocks)
    assert live.rows == total
    assert live.own == pytest.approx(sum((block.challenger_loss or 0) * block.rows for block in blocks) / total)


def test_what_was_read_is_kept_until_the_state_changes(tmp_path: Path) -> None:
    project = lived.scaffold(tmp_path)
    reader = Reader(project, "production")
    first = reader.read()
    assert reader.read() is first
    lived.alert(project, "ledger", opened=lived.NOW, closed=None, day=None, sentence="x")
    assert [alert.watch for alert in reader.read().alerts] == ["ledger"]
