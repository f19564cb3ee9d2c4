"""People see to alerts and silence watches; what still fires when a silence is over is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from watched import make_project

from passerelle.errors import StateError
from passerelle.monitoring.alerts import Alert, Finding, find_alerts, lines_of, settle
from passerelle.monitoring.handling import acknowledge, silence, speak, unsilence
from passerelle.monitoring.rules import DEFAULTS
from passerelle.monitoring.silences import read_silences
from passerelle.project.settings import Project, Watch
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import events

pytestmark = pytest.mark.usefixtures("database")

NOW = datetime(2013, 2, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _project(tmp_path: Path) -> Project:
    return make_project(tmp_path, '[alerts]\nchannels = ["ONE"]\n')


def _settle(project: Project, watch: Watch, *, now: datetime, state: str = "firing") -> Alert | None:
    finding = Finding(state=state, sentence=f"{watch} is wrong.")  # type: ignore[arg-type]
    with writing(open_state(project.state)) as connection:
        return settle(connection, "production", DEFAULTS[watch], finding, now=now, channels=("ONE",))


def _sent(project: Project) -> list[str]:
    with open_state(project.state).connect() as connection:
        return list(connection.execute(sa.select(tables.outbox.c.id).order_by(tables.outbox.c.at)).scalars())


def _silence(project: Project, watch: Watch, *, hours: float = 4, now: datetime = NOW) -> None:
    silence(project, "production", watch, lasts=hours * HOUR, reason="the machines move", by="ada", now=now)


def test_a_silenced_watch_opens_and_closes_and_sends_nothing(tmp_path: Path) -> None:
    project = _project(tmp_path)
    _silence(project, "latency")
    opened = _settle(project, "latency", now=NOW + HOUR)
    assert opened is not None
    assert not opened.told
    speak(project, "production", now=NOW + HOUR)
    assert _settle(project, "latency", now=NOW + 2 * HOUR, state="quiet") is not None
    speak(project, "production", now=NOW + 5 * HOUR)
    assert _sent(project) == []
    assert [event.sentence for event in events(open_state(project.state), kind="alert")] == [
        "latency is silenced until 2013-02-10 16:00 by ada: the machines move",
        "page: latency is wrong. latency is silenced: nothing is sent.",
        "over: latency is wrong.",
        "the silence of latency has ended (its time is over).",
    ]


def test_what_still_fires_when_the_silence_ends_is_told_once(tmp_path: Path) -> None:
    project = _project(tmp_path)
    _silence(project, "latency")
    opened = _settle(project, "latency", now=NOW + HOUR)
    assert opened is not None
    speak(project, "production", now=NOW + 4 * HOUR - timedelta(seconds=1))
    assert _sent(project) == []
    for minutes in (0, 1, 60):
        speak(project, "production", now=NOW + 4 * HOUR + timedelta(minutes=minutes))
    assert _sent(project) == [f"{opened.id}-told-20130210T160000-ONE"]
    with open_state(project.state).connect() as connection:
        [body] = connection.execute(sa.select(tables.outbox.c.body)).scalars()
        assert read_silences(connection, "production") == ()
    assert body.endswith("(The silence of latency has ended, and it still fires.)")
    _settle(project, "latency", now=NOW + 6 * HOUR, state="quiet")
    assert _sent(project)[1:] == [f"{opened.id}-closed-ONE"]


def test_what_was_told_before_its_silence_is_told_again_after_it(tmp_path: Path) -> None:
    project = _project(tmp_path)
    opened = _settle(project, "errors", now=NOW)
    assert opened is not None
    _silence(project, "errors", now=NOW + HOUR)
    speak(project, "production", now=NOW + 6 * HOUR)
    assert [one.removeprefix(opened.id) for one in _sent(project)] == ["-opened-ONE", "-told-20130210T180000-ONE"]


def test_the_end_of_what_was_told_is_told_after_the_silence(tmp_path: Path) -> None:
    """Not what ended when the silence was over and no tick had come yet: that is told as ever, once."""
    project = _project(tmp_path)
    told, late = (_settle(project, watch, now=NOW) for watch in ("errors", "silence"))
    assert told is not None
    assert late is not None
    for watch in ("errors", "silence"):
        _silence(project, watch, now=NOW + HOUR)
    _settle(project, "errors", now=NOW + 2 * HOUR, state="quiet")
    assert [one for one in _sent(project) if "closed" in one] == []
    _settle(project, "silence", now=NOW + 5 * HOUR, state="quiet")
    speak(project, "production", now=NOW + 6 * HOUR)
    speak(project, "production", now=NOW + 7 * HOUR)
    assert [one for one in _sent(project) if "closed" in one] == [f"{late.id}-closed-ONE", f"{told.id}-closed-ONE"]


def test_an_open_alert_follows_its_rule(tmp_path: Path) -> None:
    project = _project(tmp_path)
    opened = _settle(project, "latency", now=NOW)
    assert opened is not None
    rule = msgspec.structs.replace(DEFAULTS["latency"], level="ticket", action="Call the platform team.")
    with writing(open_state(project.state)) as connection:
        settle(connection, "production", rule, Finding(state="firing", sentence="slow."), now=NOW + HOUR)
    [alert] = find_alerts(open_state(project.state), "production")
    assert (alert.id, alert.level, alert.action) == (opened.id, "ticket", "Call the platform team.")


def test_another_watch_of_the_cause_is_told_where_the_first_is_silenced(tmp_path: Path) -> None:
    project = _project(tmp_path)
    _silence(project, "errors")
    silent, slow = (_settle(project, watch, now=NOW + HOUR) for watch in ("errors", "latency"))
    assert silent is not None
    assert slow is not None
    assert (slow.group, slow.told, _sent(project)) == (silent.id, True, [f"{slow.id}-opened-ONE"])


def test_a_silence_is_ended_by_hand(tmp_path: Path) -> None:
    project = _project(tmp_path)
    _silence(project, "latency")
    _settle(project, "latency", now=NOW + HOUR)
    ended = unsilence(project, "production", "latency", by="bob", now=NOW + 2 * HOUR)
    assert ended.by == "ada"
    assert len(_sent(project)) == 1
    told = [event.sentence for event in events(open_state(project.state), kind="alert")]
    assert told[2] == "the silence of latency has ended (by bob), and it is still firing."
    with pytest.raises(StateError, match="latency is not silenced in production: nothing is"):
        unsilence(project, "production", "latency", by="bob", now=NOW + 2 * HOUR)


def test_a_silence_replaces_the_one_before_it_and_is_of_one_environment(tmp_path: Path) -> None:
    project = _project(tmp_path)
    _silence(project, "latency")
    _silence(project, "errors")
    _silence(project, "latency", hours=8)
    with open_state(project.state).connect() as connection:
        assert [(one.watch, one.until - NOW) for one in read_silences(connection, "production")] == [
            ("errors", 4 * HOUR),
            ("latency", 8 * HOUR),
        ]
        assert read_silences(connection, "staging") == ()


@pytest.mark.parametrize("hours", [0, -1, 24 * 30 + 1])
def test_silences_of_no_time_or_for_good_are_refused(tmp_path: Path, hours: int) -> None:
    with pytest.raises(StateError, match=r'watch = "latency" and level = "off"'):
        _silence(_project(tmp_path), "latency", hours=hours)


def test_a_silence_needs_a_reason(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="needs a reason"):
        silence(_project(tmp_path), "production", "errors", lasts=HOUR, reason=" ", by="ada", now=NOW)


def test_who_sees_to_an_alert_is_shown_until_it_is_over(tmp_path: Path) -> None:
    project = _project(tmp_path)
    opened = _settle(project, "latency", now=NOW)
    assert opened is not None
    acknowledge(project, opened.id, by="ada", note="looking at the disk", now=NOW + HOUR)
    _settle(project, "latency", now=NOW + 2 * HOUR)  # the next look leaves it there
    [alert] = find_alerts(open_state(project.state), "production")
    assert lines_of(alert)[1] == "    ada sees to it since 2013-02-10 13:00: looking at the disk"
    assert events(open_state(project.state), kind="alert")[-1].sentence == "ada sees to it: looking at the disk"
    _settle(project, "latency", now=NOW + 3 * HOUR, state="quiet")
    with pytest.raises(StateError, match="is over since 2013-02-10 15:00"):
        acknowledge(project, opened.id, by="ada", now=NOW + 4 * HOUR)
    with pytest.raises(StateError, match="there is no alert 'nothing'"):
        acknowledge(project, "nothing", by="ada", now=NOW)


def test_alerts_that_an_earlier_version_kept_are_read(tmp_path: Path) -> None:
    """Without the fields that came later: its page was told, and its end is told."""
    project = _project(tmp_path)
    opened = _settle(project, "latency", now=NOW)
    assert opened is not None
    with writing(open_state(project.state)) as connection:
        [value] = connection.execute(sa.select(tables.alerts.c.value)).scalars()
        later = ("group", "alone", "told", "acknowledged_at", "acknowledged_by", "note")
        old = {name: one for name, one in value.items() if name not in later}
        connection.execute(tables.alerts.update().values(value=old))
    _settle(project, "latency", now=NOW + HOUR, state="quiet")
    assert _sent(project) == [f"{opened.id}-opened-ONE", f"{opened.id}-closed-ONE"]
