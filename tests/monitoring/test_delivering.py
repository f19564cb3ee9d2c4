"""Messages: sent once, tried again, and never to where they must not go."""

from __future__ import annotations

import shutil
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from listening import listening
from watched import make_project

from passerelle.deployment.spec import environment_folder
from passerelle.monitoring import channels
from passerelle.monitoring.alerts import Alert, Finding, find_alerts, settle
from passerelle.monitoring.channels import Delivered, deliver, open_channel
from passerelle.monitoring.messages import ChannelError, Message
from passerelle.monitoring.rules import DEFAULTS, rule_of
from passerelle.monitoring.webhook import Webhook, is_public
from passerelle.project.settings import Project
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.lease import lease
from passerelle.state.timeline import events

NOW = datetime(2013, 2, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ALERTS = '[alerts]\nchannels = ["HOOK"]\nprivate_addresses = true\n'


def _open(project: Project, watch: str = "latency", *, now: datetime = NOW) -> Alert | None:
    with writing(open_state(project.state)) as connection:
        found = Finding(state="firing", sentence="slow.")
        rule = rule_of(project, watch)  # type: ignore[arg-type]
        return settle(connection, "production", rule, found, now=now, channels=project.alerts.channels)


def _outbox(project: Project) -> list[sa.Row[tuple[object, ...]]]:
    with open_state(project.state).connect() as connection:
        return list(connection.execute(sa.select(tables.outbox).order_by(tables.outbox.c.id)).all())


@pytest.mark.usefixtures("database")
def test_a_page_is_sent_once_with_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, ALERTS)
    with listening() as heard:
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/hook?k=1")
        opened = _open(project)
        assert opened is not None
        assert deliver(project, now=NOW) == Delivered(sent=1)
        assert deliver(project, now=NOW + MINUTE) == Delivered()
    [(headers, value)] = heard.posts
    assert headers["idempotency-key"] == value["id"] == f"{opened.id}-opened-HOOK"
    assert headers["path"] == "/hook?k=1"
    assert value["title"] == "production: latency"
    assert value["body"] == f"slow.\nNext: {DEFAULTS['latency'].action}"
    assert value["text"].startswith("production: latency\nslow.")


@pytest.mark.usefixtures("database")
def test_what_fails_is_tried_again_later_and_later_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, ALERTS)
    _open(project)
    with listening() as heard:
        heard.status = 500
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        tried = [
            minute for minute in range(5000) if minute in _DUE and deliver(project, now=NOW + minute * MINUTE).failed
        ]
        assert tried == sorted(_DUE)[:12]
        [row] = _outbox(project)
        assert (row.tries, row.sent_at) == (12, None)
        heard.status = 200
        assert deliver(project, now=NOW + timedelta(days=30)) == Delivered()
    told = [event.sentence for event in events(open_state(project.state), kind="alert")][1:]
    assert [sentence.partition(":")[0] for sentence in told] == ["the message 'production"] * 2
    assert "will be tried again" in told[0]
    assert "is not tried again" in told[1]


_DUE = {2**tries - 1 for tries in range(14)}


def test_it_arrives_when_the_channel_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, ALERTS)
    _open(project)
    with listening() as heard:
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        heard.status = 503
        assert len(deliver(project, now=NOW).failed) == 1
        heard.status = 200
        assert deliver(project, now=NOW + MINUTE / 2) == Delivered()  # not due yet
        assert deliver(project, now=NOW + MINUTE) == Delivered(sent=1)
    [row] = _outbox(project)
    assert (row.tries, row.sent_at, row.problem) == (2, NOW + MINUTE, None)


@pytest.mark.usefixtures("database")
def test_a_loop_that_was_stopped_for_days_does_not_use_up_the_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, ALERTS)
    _open(project)
    with listening() as heard:
        heard.status = 500
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        later = NOW + timedelta(days=2)
        tried = [minute for minute in range(20) if deliver(project, now=later + minute * MINUTE).failed]
    assert tried == [0, 1, 3, 7, 15]


@pytest.mark.usefixtures("database")
def test_nobody_reads_that_it_is_over_before_that_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, ALERTS)
    _open(project)
    with listening() as heard:
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        heard.status = 500
        assert len(deliver(project, now=NOW).failed) == 1
        heard.status = 200
        with writing(open_state(project.state)) as connection:
            quiet = Finding(state="quiet", sentence="quick again.")
            rule = rule_of(project, "latency")
            settle(connection, "production", rule, quiet, now=NOW, channels=project.alerts.channels)
        _open(project, "silence")  # another alert waits for neither
        assert deliver(project, now=NOW + MINUTE / 2) == Delivered(sent=1)
        assert deliver(project, now=NOW + MINUTE) == Delivered(sent=2)
    titles = [value["title"] for _, value in heard.posts]
    assert titles == ["production: silence", "production: latency", "production: latency is over"]


def test_a_variable_that_is_not_set_is_told_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, ALERTS.replace('["HOOK"]', '["MISSING", "HOOK"]'))
    _open(project)
    with listening() as heard:
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        done = deliver(project, now=NOW)
    assert done.sent == 1
    assert done.failed[0].startswith(
        "MISSING: the environment variable MISSING, which alerts.channels names, is not set"
    )


@pytest.mark.usefixtures("database")
def test_two_processes_do_not_send_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, ALERTS)
    _open(project)
    with listening() as heard:
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        with lease(project.state, "deliver"):
            assert deliver(project, now=NOW) == Delivered()
        assert heard.posts == []


def test_a_server_that_drips_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and the answer never does: the other channel is served, the next message waits."""
    project = make_project(tmp_path, ALERTS.replace('["HOOK"]', '["SLOW", "HOOK"]'))
    _open(project)
    _open(project, "silence")
    monkeypatch.setattr(channels, "DEADLINE_S", 0.3)
    with listening() as slow, listening() as heard:
        slow.drip_s = 0.05
        monkeypatch.setenv("SLOW", f"http://127.0.0.1:{slow.port}/")
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        begun = time.monotonic()
        done = deliver(project, now=NOW)
        assert time.monotonic() - begun < 10, "the whole answer takes longer"
        assert len(heard.posts) == done.sent == 2
    assert done.failed == ("SLOW: it took longer than 0.3 seconds: the message is kept, and may come twice.",)
    assert sorted(row.tries for row in _outbox(project)) == [0, 1, 1, 1]


@pytest.mark.usefixtures("database")
def test_messages_that_were_sent_are_forgotten_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, ALERTS)
    with listening() as heard:
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        left = []
        for watch, days in (("latency", 0), ("errors", 89), ("silence", 91)):
            now = NOW + timedelta(days=days)
            _open(project, watch, now=now)
            deliver(project, now=now)
            left.append([row.title for row in _outbox(project)])
    assert left[1:] == [
        ["production: errors", "production: latency"],
        ["production: errors", "production: silence"],
    ]


def test_tickets_are_not_sent(tmp_path: Path) -> None:
    project = make_project(tmp_path, ALERTS)
    assert _open(project, "input_drift") is not None
    assert _outbox(project) == []


@pytest.mark.usefixtures("database")
def test_one_alert_is_open_at_a_time_and_found_before_it_is_made(tmp_path: Path) -> None:
    project = make_project(tmp_path, ALERTS)
    assert _open(project) is not None
    assert _open(project, now=NOW + MINUTE) is None
    [alert] = find_alerts(open_state(project.state), "production")
    assert (alert.id, alert.closed_at) == ("production-latency-20130210T120000", None)
    with writing(open_state(project.state)) as connection:
        quiet = Finding(state="quiet", sentence="quick again.")
        closed = settle(connection, "production", rule_of(project, "latency"), quiet, now=NOW + MINUTE)
    assert closed is not None
    assert closed.closed_at == NOW + MINUTE
    assert _open(project) is None  # of the same moment, and over
    assert find_alerts(open_state(project.state), "production", open_only=True) == []


def test_plain_webhooks_do_not_reach_private_addresses() -> None:
    message = Message(id="1", title="t", body="b")
    with listening() as heard:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"):  # noqa: S104  (refused)
            with pytest.raises(ChannelError, match=r"private or of this machine: nothing was sent|has no address"):
                open_channel(f"http://{host}:{heard.port}/").send(message)
        assert heard.posts == []


def test_redirects_are_not_followed() -> None:
    with listening() as heard, listening() as inside:
        heard.status, heard.headers = 307, {"Location": f"http://127.0.0.1:{inside.port}/"}
        with pytest.raises(ChannelError, match="a redirect, which is not followed"):
            Webhook(f"http://127.0.0.1:{heard.port}/", private_addresses=True).send(Message(id="1", title="", body=""))
        assert inside.posts == []


def test_the_connection_goes_to_the_address_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers something else the second time leads nowhere else."""
    answers = iter([[(2, 1, 6, "", ("127.0.0.1", 0))], [(2, 1, 6, "", ("127.9.9.9", 0))]])
    asked = []

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return next(answers) if host == "hook.example" else real(host, *_, **__)  # type: ignore[arg-type]

    import socket

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with listening() as heard:
        channel = Webhook(f"http://hook.example:{heard.port}/", private_addresses=True)
        channel.send(Message(id="1", title="t", body="b"))
        assert heard.posts[0][0]["host"] == f"hook.example:{heard.port}"
    assert asked.count("hook.example") == 1


def test_the_next_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """``localhost`` is ::1 first on many machines, and the server listens on 127.0.0.1."""
    import socket

    found = [(10, 1, 6, "", ("::1", 0, 0, 0)), (2, 1, 6, "", ("127.0.0.1", 0))]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **named: found if host == "both" else real(host, *more, **named)
    )
    with listening() as heard:
        Webhook(f"http://both:{heard.port}/", private_addresses=True).send(Message(id="1", title="t", body="b"))
        assert len(heard.posts) == 1


def test_https_wants_a_certificate_of_the_name() -> None:
    with listening() as heard, pytest.raises(ChannelError, match="SSL") as caught:
        Webhook(f"https://localhost:{heard.port}/", private_addresses=True).send(Message(id="1", title="", body=""))
    assert isinstance(caught.value.__cause__, ssl.SSLError)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
    ],
)
def test_which_addresses_are_public(address: str, *, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "address", ["nonsense", "mailto://", "json://127.0.0.1/", "http://", "http://[::1", "ftp://x/"]
)
def test_addresses_that_are_none_are_refused_without_being_shown(address: str) -> None:
    with pytest.raises(ChannelError) as caught:
        open_channel(address)
    assert address not in str(caught.value).replace("mailto://...", "")


@pytest.mark.parametrize("other", ["json://169.254.169.254/", "mailto://b:c@example.org"])
def test_a_channel_is_one_address(other: str) -> None:
    """Apprise would split it, and send to all of them."""
    with pytest.raises(ChannelError, match="several addresses"):
        open_channel(f"mailto://a:b@example.org, {other}")


def test_the_verb_tries_channels_and_shows_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from passerelle.cli import main

    project = make_project(tmp_path, ALERTS)
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    assert run(main, ["alerts"]).output == "There was no alert in production.\n"
    failed = run(main, ["alerts", "--test"])
    assert failed.exit_code == 1
    assert "HOOK: the environment variable HOOK" in failed.output
    with listening() as heard:
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{heard.port}/")
        assert run(main, ["alerts", "--test"]).output == "HOOK: the test message was accepted.\n"
        assert heard.posts[0][1]["title"] == "flights: a test"
    _open(project)
    shown = run(main, ["alerts", "--open"]).output
    assert shown.startswith(
        "latency  (production-latency-20130210T120000)\n"
        "  2013-02-10 12:00  page    OPEN                     slow.\n"
        "      Next: Look at the machine"
    )
    assert '"watch": "latency"' in run(main, ["alerts", "--json"]).output


def test_a_test_without_a_channel_says_how_to_add_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from passerelle.cli import main

    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments in (["alerts", "--test"], ["alerts", "--test", "--json"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert result.output.startswith("passerelle: no channel is configured, so pages reach nobody: put")
        assert 'channels = ["OPERATIONS_CHANNEL"] below [alerts]' in result.output


def test_nothing_is_open_where_an_alert_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the environment was never deployed: the loop's own alerts may come before."""
    from passerelle.cli import main

    project = make_project(tmp_path)
    shutil.rmtree(environment_folder(project.state, "production"))
    _open(project)
    with writing(open_state(project.state)) as connection:
        settle(connection, "production", rule_of(project, "latency"), Finding(state="quiet"), now=NOW + MINUTE)
    monkeypatch.chdir(tmp_path)
    opened = CliRunner().invoke(main, ["alerts", "--open"])
    assert (opened.exit_code, opened.output) == (0, "Nothing is wrong in production.\n")
    assert "closed 2013-02-10 12:01  slow." in CliRunner().invoke(main, ["alerts"]).output
