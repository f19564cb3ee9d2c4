"""The verbs by which people handle alerts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from watched import make_project

from passerelle.cli import main
from passerelle.clock import system_clock
from passerelle.monitoring.alerts import Alert, Finding, settle
from passerelle.monitoring.channels import deliver, undelivered
from passerelle.monitoring.rules import DEFAULTS
from passerelle.project.settings import Project, Watch
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import events


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "ada")
    return make_project(tmp_path, '[alerts]\nchannels = ["ONE"]\n')


def _fire(project: Project, watch: Watch, *, day: datetime | None = None) -> Alert:
    finding = Finding(state="firing", sentence=f"{watch} is wrong.", day=day)
    with writing(open_state(project.state)) as connection:
        opened = settle(connection, "production", DEFAULTS[watch], finding, now=system_clock(), channels=("ONE",))
    assert opened is not None
    return opened


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["alerts", *arguments])


def test_alerts_of_one_cause_are_shown_together_with_who_sees_to_them(project: Project) -> None:
    slow, failing = _fire(project, "latency"), _fire(project, "errors")
    assert _run("ack", slow.id, "--note", "restarting").output == f"ada sees to {slow.id}.\n"
    lines = _run("--open").output.splitlines()
    assert lines[0] == f"latency  ({slow.id})"
    assert lines[2].startswith("      ada sees to it since ")
    assert lines[2].endswith(": restarting")
    assert lines[4] == f"    began together: errors  ({failing.id})"
    assert lines[5].startswith(f"      {failing.opened_at:%Y-%m-%d %H:%M}  page    OPEN")


def test_a_watch_is_silenced_shown_and_heard_again(project: Project) -> None:
    made = _run("silence", "latency", "--for", "90m", "--reason", "the machines move")
    assert "of latency until " in made.output
    assert made.output.endswith("by ada: the machines move. passerelle alerts unsilence latency ends it.\n")
    _fire(project, "latency")
    [silence] = json.loads(_run("--json").output)["silences"]
    assert (silence["watch"], silence["by"]) == ("latency", "ada")
    assert "Silenced: latency until" in _run("--open").output
    assert _run("unsilence", "latency").output == "latency is not silenced any more.\n"
    told = [event.sentence for event in events(open_state(project.state), kind="alert")]
    assert told[2] == "the silence of latency has ended (by ada), and it is still firing."
    again = _run("unsilence", "latency", "--json")
    assert (again.exit_code, json.loads(again.stdout)["exit_code"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("silence", "latency", "--for", "4 hours", "--reason", "x"), "'4 hours' is no duration: say 90m, 4h or 2d."),
        (("silence", "latencies", "--for", "4h", "--reason", "x"), "'latencies' is not one of 'performance'"),
        (("silence", "latency", "--for", "31d", "--reason", "x"), "a silence lasts up to 30 days"),
        (("silence", "latency", "--for", "4h", "--reason", "x", "--to", "prod"), "nothing is deployed in prod"),
        (("ack", "that"), "there is no alert 'that'"),
    ],
)
def test_slips_are_refused_in_a_sentence(project: Project, arguments: tuple[str, ...], told: str) -> None:
    result = _run(*arguments)
    assert result.exit_code in (1, 2)
    assert told in result.output
    assert events(open_state(project.state), kind="alert") == []


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("normal", "{} is how it is now: later days are compared with its days.\n"),
        ("incident", "{} was an incident: its days are left out.\n"),
    ],
)
def test_what_an_alert_was_is_said_and_closes_it(project: Project, verb: str, told: str) -> None:
    drifted = _fire(project, "performance", day=datetime(2013, 2, 9, tzinfo=UTC))
    assert _run(verb, drifted.id).output == told.format(drifted.id)
    assert _run("--open").output.startswith("Nothing is wrong in production.")
    assert "ada" in events(open_state(project.state), kind="alert")[-1].sentence
    refused = _run(verb, _fire(project, "latency").id)
    assert (refused.exit_code, "is an alert of latency" in refused.output) == (1, True)


def test_the_budget_is_shown_and_counted(project: Project) -> None:
    _fire(project, "latency")
    shown = _run().output.splitlines()
    assert shown[-2:] == [
        "  input_drift   expected false <= 0 (0 days, one in 1,000 at most); raised 0",
        "Without chance in them: latency 1.",
    ]
    assert json.loads(_run("--json").output)["budget"]["expected"] == 0.0


def test_durations_are_minutes_hours_or_days(project: Project) -> None:
    for text, lasts in (("90m", timedelta(minutes=90)), ("4h", timedelta(hours=4)), ("2d", timedelta(days=2))):
        made = json.loads(_run("silence", "errors", "--for", text, "--reason", "x", "--json").output)
        since, until = (datetime.fromisoformat(made[name]) for name in ("since", "until"))
        assert until - since == lasts
    assert project.alerts.channels == ("ONE",)


@pytest.mark.usefixtures("project")
def test_an_option_of_the_list_before_a_verb_is_refused() -> None:
    """The verb would not see it, and silence production."""
    refused = _run("--to", "staging", "silence", "latency", "--for", "4h", "--reason", "work")
    assert refused.exit_code == 2
    assert "--to stands before silence: say it after, passerelle alerts silence ... --to ..." in refused.output
    assert json.loads(_run("--json").output)["silences"] == []


def test_messages_that_did_not_arrive_are_shown(project: Project) -> None:
    _fire(project, "latency")
    assert "Undelivered to ONE: 1 message waits: it has not been asked yet." in _run("--open").output
    deliver(project, now=system_clock())
    [kept] = json.loads(_run("--json").output)["undelivered"]
    assert (kept["channel"], kept["waiting"], kept["given_up"]) == ("ONE", 1, 0)
    assert kept["problem"].startswith("the environment variable ONE, which alerts.channels names, is not set")
    for days in range(12):
        deliver(project, now=system_clock() + timedelta(days=days + 1))
    assert undelivered(open_state(project.state), now=system_clock() + timedelta(days=14))[0].given_up == 1
    assert undelivered(open_state(project.state), now=system_clock() + timedelta(days=30)) == []
