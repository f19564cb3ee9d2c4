"""What is done about an alert from its page: by whom, once, and only by those who may."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import lived
import pytest
from shown import ask
from test_guard import give, origin, token

from passerelle.dashboard.reading import Reader
from passerelle.monitoring.alerts import Alert, find_alerts
from passerelle.monitoring.marking import read_marks
from passerelle.monitoring.silences import read_silences
from passerelle.project.settings import FILE, Project, load_project
from passerelle.state.database import open_state

ACTS = ("acknowledge", "silence", "unsilence", "normal", "incident")


@pytest.fixture
def acted(project: Project, tmp_path: Path) -> Project:
    """A copy of the project that has lived, to act on."""
    return load_project(Path(shutil.copytree(project.root, tmp_path / "acted")) / FILE)


def first_open(project: Project) -> Alert:
    return find_alerts(open_state(project.state), "production", open_only=True)[0]


def do(client: httpx.Client, act: str, **form: str) -> httpx.Response:
    return client.post(f"/actions/{act}", data=form, headers={"Origin": origin(client)})


def test_an_admin_acts_on_an_alert_from_its_page_under_the_name_of_the_token(acted: Project) -> None:
    alert, engine = first_open(acted), open_state(acted.state)
    secret = token(acted, "admin")
    with ask(acted) as client:
        assert give(client, secret).status_code == 303
        assert {act for act in ACTS if f"/actions/{act}" in client.get("/alerts").text} == set(ACTS) - {"unsilence"}
        done = do(client, "acknowledge", alert=alert.id, note="a <new>  source")
        assert (done.status_code, done.headers["location"]) == (303, "/alerts")
        seen = first_open(acted)
        assert (seen.acknowledged_by, seen.acknowledged_at, seen.note) == ("admin", lived.NOW, "a <new> source")
        assert "admin sees to it: a &lt;new&gt; source" in client.get("/alerts").text
        assert do(client, "silence", watch=alert.watch, hours="4", reason="the mains are moved").status_code == 303
        with engine.connect() as connection:
            (silent,) = read_silences(connection, "production")
        assert (silent.watch, silent.until - silent.since, silent.by) == (alert.watch, lived.DAY / 6, "admin")
        text = client.get("/alerts").text
        assert "the mains are moved" in text
        assert "/actions/unsilence" in text
        assert "/actions/silence" not in text
        assert do(client, "unsilence", watch=alert.watch).status_code == 303
        with engine.connect() as connection:
            assert read_silences(connection, "production") == ()
        assert do(client, "incident", alert=alert.id, sure="yes").status_code == 303
        with engine.connect() as connection:
            (mark,) = read_marks(connection, "production", alert.watch)
        assert (mark.alert, mark.says, mark.by) == (alert.id, "incident", "admin")
        again = do(client, "normal", alert=alert.id, sure="yes")
        assert again.status_code == 409
        assert "is over since this page was read" in again.text
    told = Reader(acted, "production").read().events
    assert [one.details["state"] for one in told if one.details.get("alert") == alert.id][:2] == [
        "opened",
        "acknowledged",
    ]


def test_what_is_not_sure_not_open_or_not_a_watch_changes_nothing(acted: Project) -> None:
    alert, secret = first_open(acted), token(acted, "admin")
    with ask(acted) as client:
        give(client, secret)
        for act, form in (
            ("normal", {"alert": alert.id}),
            ("incident", {"alert": alert.id, "sure": "no"}),
            ("acknowledge", {"alert": "production-nothing"}),
            ("acknowledge", {"alert": alert.id, "note": "x" * 301}),
            ("silence", {"watch": "weather", "hours": "4", "reason": "x"}),
            ("silence", {"watch": alert.watch, "hours": "5", "reason": "x"}),
            ("silence", {"watch": alert.watch, "hours": "4", "reason": " "}),
            ("unsilence", {"watch": alert.watch}),
        ):
            assert do(client, act, **form).status_code == 409, (act, form)
    assert first_open(acted) == alert
    with open_state(acted.state).connect() as connection:
        assert read_silences(connection, "production") == ()
        assert read_marks(connection, "production", alert.watch) == []


def test_who_only_reads_is_not_shown_how_and_may_not(acted: Project) -> None:
    alert, secret = first_open(acted), token(acted, "read")
    with ask(acted) as client:
        give(client, secret)
        text = client.get("/alerts").text
        assert "/actions/" not in text
        assert "What became of it" in text
        for act in ACTS:
            assert (
                do(client, act, alert=alert.id, watch=alert.watch, hours="4", reason="x", sure="yes").status_code == 403
            )
    assert first_open(acted) == alert
