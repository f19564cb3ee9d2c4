"""Alerts arrive, by mail and by webhook: after kill -9, and through a channel that is down for a minute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from listening import listening
from mailing import mailing, text_of
from watched import make_project

from passerelle.monitoring.alerts import Finding, settle
from passerelle.monitoring.channels import Delivered, deliver
from passerelle.monitoring.rules import DEFAULTS
from passerelle.project.settings import Project, Watch
from passerelle.state.database import open_state, writing
from passerelle.state.postgresql import VARIABLE

NOW = datetime(2013, 2, 13, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BOTH = '[alerts]\nchannels = ["HOOK", "MAIL"]\nprivate_addresses = true\n'


def _fire(project: Project, *watches: Watch) -> None:
    with writing(open_state(project.state)) as connection:
        for watch in watches:
            found = Finding(state="firing", sentence=f"{watch} is wrong.")
            settle(connection, "production", DEFAULTS[watch], found, now=NOW, channels=project.alerts.channels)


def _mailto(port: int, to: str) -> str:
    return f"mailto://127.0.0.1:{port}?from=loop@here.example&to={to}@there.example"


def _id_in(body: str) -> str:
    """The message's id, which stands in the last line."""
    return body.rstrip().rpartition("(")[2].rstrip(")")


def test_mail_says_what_is_wrong_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, BOTH.replace('"HOOK", ', ""))
    _fire(project, "latency")
    with mailing() as box:
        monkeypatch.setenv("MAIL", _mailto(box.port, "ada"))
        assert deliver(project, now=NOW) == Delivered(sent=1)
    [(receivers, mail)] = box.mails
    assert receivers == ["ada@there.example"]
    assert mail["Subject"] == "production: latency"
    text = " ".join(text_of(mail).split())
    assert "latency is wrong. Next: Look at the machine's load" in text
    assert "(production-latency-20130213T120000-opened-MAIL)" in text


@pytest.mark.usefixtures("database")
def test_channels_that_are_down_for_a_minute_lose_and_repeat_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, BOTH)
    with listening() as heard, mailing() as box:
        ports = heard.port, box.port
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{ports[0]}/")
    monkeypatch.setenv("MAIL", _mailto(ports[1], "ada"))
    _fire(project, "latency", "silence")
    down = deliver(project, now=NOW)  # nobody listens there now
    assert (down.sent, len(down.failed)) == (0, 4)
    assert deliver(project, now=NOW + 0.9 * MINUTE) == Delivered()
    with listening(ports[0]) as heard, mailing(ports[1]) as box:
        box.status = 451  # up, and not ready to take anything
        half = deliver(project, now=NOW + MINUTE)
        assert (half.sent, len(half.failed)) == (2, 2)
        box.status = 250
        assert deliver(project, now=NOW + 3 * MINUTE) == Delivered(sent=2)
        assert deliver(project, now=NOW + 60 * MINUTE) == Delivered()
    ids = [f"production-{watch}-20130213T120000-opened" for watch in ("latency", "silence")]
    assert sorted(value["id"] for _, value in heard.posts) == [f"{one}-HOOK" for one in ids]
    assert sorted(_id_in(text_of(mail)) for _, mail in box.mails) == [f"{one}-MAIL" for one in ids]


@pytest.mark.usefixtures("database")
def test_killed_at_any_step_nothing_is_lost_and_only_what_was_not_noted_comes_twice(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", BOTH)
    _fire(project, "latency", "silence")
    script = Path(__file__).with_name("delivering_dying.py")
    with listening() as heard, mailing() as box:
        addresses = [f"http://127.0.0.1:{heard.port}/NUMBER", _mailto(box.port, "NUMBER")]
        command = [sys.executable, "-W", "ignore", str(script), str(project.root), str(tmp_path / "dead"), *addresses]
        step = 2 if VARIABLE in os.environ else 1  # a copy takes longer there
        command.append(str(step))
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    arrived = Counter((headers["path"].strip("/"), value["id"]) for headers, value in heard.posts)
    arrived += Counter((to.partition("@")[0], _id_in(text_of(mail))) for [to], mail in box.mails)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["lived"] for line in lines] == [False] * (len(lines) - 1) + [True]
    every = [
        f"production-{watch}-20130213T120000-opened-{one}"
        for watch in ("latency", "silence")
        for one in ("HOOK", "MAIL")
    ]
    repeats = 0
    for line in lines:
        assert line["in the end"] == every
        between = set(line["accepted"]) - set(line["noted"])  # died after the acceptance, before the note
        assert len(between) <= (0 if line["lived"] else 1)
        assert {id_: arrived[str(line["moment"]), id_] for id_ in every} == {id_: 1 + (id_ in between) for id_ in every}
        repeats += len(between)
    assert repeats * step >= 4, "there are deaths in between, of each message"
