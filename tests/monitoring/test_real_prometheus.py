"""What is exported, in front of Debian's own Prometheus and Alertmanager: checked, fed with series, and live."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prometheus_server
import pytest
import uvicorn
import yaml
from listening import listening
from mailing import mailing, text_of
from prometheus_server import check, free_port, running, wait_for
from watched import make_project

from passerelle.dashboard.app import make_app
from passerelle.monitoring.alerts import Finding, settle
from passerelle.monitoring.export import export
from passerelle.monitoring.rules import rule_of
from passerelle.project.settings import Project, Watch
from passerelle.state.database import open_state, writing

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(prometheus_server.IS_ABSENT, reason=prometheus_server.ABSENT),
]

NOW = datetime(2013, 2, 1, tzinfo=UTC)
BOTH = '[alerts]\nchannels = ["HOOK", "MAIL"]\n'
HERE = 'project="flights", environment="production"'


def _settle(project: Project, watch: Watch, state: str = "firing") -> None:
    finding = Finding(state=state, sentence=f"{watch} is wrong.")  # type: ignore[arg-type]
    with writing(open_state(project.state)) as connection:
        settle(connection, "production", rule_of(project, watch), finding, now=NOW)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a project with a threshold of its own for each rule that Prometheus computes."""
    monkeypatch.setenv("MAIL", "mailtos://me:secret@smtp.example.org?to=ada@there.example")
    rules = {"latency": 250, "errors": 2, "silence": 30}
    more = "".join(f'[[rules]]\nwatch = "{watch}"\nthreshold = {limit}\n' for watch, limit in rules.items())
    project = make_project(tmp_path / "project", BOTH + more)
    export(project, "production", tmp_path / "out", dashboard="127.0.0.1:8701", now=NOW)
    return tmp_path / "out"


def test_their_own_tools_find_nothing_wrong(exported: Path) -> None:
    assert "SUCCESS: 15 rules found" in check("promtool", "check", "rules", exported / "passerelle.rules.yml")
    check("promtool", "check", "config", exported / "prometheus.yml")
    assert "2 receivers" in check("amtool", "check-config", exported / "alertmanager.yml")


def _minute(each: float, *, before: float = 0.0) -> str:
    """A counter, minute by minute for two hours."""
    return f"{before:g}+{each:g}x120"


def _series(name: str, values: str, labels: str = "") -> dict[str, str]:
    return {"series": f"passerelle_{name}{{{HERE}{labels}}}", "values": values}


def _requests(*, each: float, slow: float) -> list[dict[str, str]]:
    """So many a minute, so many of them slower than 250 ms, and quicker than 500."""
    route = ', route="/predict"'
    counts = {"0.25": each - slow, "0.5": each, "1.0": each, "10.0": each, "+Inf": each}
    found = [
        _series("request_seconds_bucket", _minute(count), f'{route}, le="{bound}"') for bound, count in counts.items()
    ]
    return [*found, _series("request_seconds_count", _minute(each), route)]


def _events(status: str, values: str) -> dict[str, str]:
    return _series("events_total", values, f', role="live", status="{status}", version="1"')


def _codes(each: dict[int, float]) -> list[dict[str, str]]:
    return [_series("requests_total", _minute(n), f', route="/predict", code="{code}"') for code, n in each.items()]


SCENES: list[tuple[str, list[dict[str, str]], set[str]]] = [
    ("one in fifty is slow", _requests(each=100, slow=2), {"PasserelleLatency"}),
    ("one in two hundred is slow", _requests(each=100, slow=0.5), set()),
    ("one in forty is slow, five in all", _requests(each=20, slow=0.5), set()),
    ("half are slow, of too few", _requests(each=1.5, slow=0.75), set()),
    (
        "three in a hundred fail",
        [_events("scored", _minute(97)), _events("failed", _minute(2)), _events("timed_out", _minute(1))],
        {"PasserelleErrors"},
    ),
    ("one in a hundred fails", [_events("scored", _minute(99)), _events("failed", _minute(1))], set()),
    ("callers are refused", _codes({200: 90, 422: 10}), {"PasserelleErrors"}),
    ("all is answered", _codes({200: 100}), set()),
    ("events have stopped", [_events("scored", "0+10x30 300x90")], {"PasserelleSilence"}),
    ("events come", [_events("scored", _minute(1))], set()),
    ("it was found just now", [_events("scored", "_x100 300x20")], set()),
    ("the series ended, too", [_events("scored", "0+10x95 _x25")], set()),
    ("the loop says so", [_series("alert_open", "1x120", ', watch="silence", level="page"')], {"PasserelleSilence"}),
    ("a storm", [_series("alert_open", "1x120", ', watch="performance", level="page"')], {"PasserellePerformance"}),
    ("no storm", [_series("alert_open", "0x120", ', watch="performance", level="page"')], set()),
    ("the loop looks", [_series("loop_look_timestamp_seconds", _minute(60))], set()),
    ("the loop never looked", [_series("loop_look_timestamp_seconds", " ".join(["NaN"] * 121))], set()),
    ("the loop has stopped", [_series("loop_look_timestamp_seconds", "0+60x90 5400x30")], {"PasserelleLoopStopped"}),
    (
        "the endpoint is gone",
        [{"series": f'up{{job="passerelle-endpoint", {HERE}}}', "values": "1x100 0x20"}],
        {"PasserelleEndpointDown"},
    ),
    (
        "another project's",
        [{"series": 'passerelle_alert_open{project="other", watch="loop"}', "values": "1x120"}],
        set(),
    ),
]


def test_rules_fire_where_the_loop_s_do_and_nowhere_else(exported: Path) -> None:
    """Each scene lasts two hours, and is asked at its end which of all rules fire: promtool compares."""
    rules = yaml.safe_load((exported / "passerelle.rules.yml").read_text())["groups"][0]["rules"]
    known = {one["alert"]: one for one in rules if "alert" in one}
    (exported / "names.rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "names", "rules": _bare(rules)}]}))
    tests = [
        {
            "interval": "1m",
            "name": name,
            "input_series": series,
            "alert_rule_test": [
                {"eval_time": "2h", "alertname": alert, "exp_alerts": _due(known[alert]) if alert in firing else []}
                for alert in known
            ],
        }
        for name, series, firing in SCENES
    ]
    asked = {"rule_files": ["names.rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (exported / "scenes.yml").write_text(yaml.safe_dump(asked))
    assert "SUCCESS" in check("promtool", "test", "rules", exported / "scenes.yml")


def _bare(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without annotations, whose figures are not what is asked here."""
    return [{name: value for name, value in one.items() if name != "annotations"} for one in rules]


def _due(rule: dict[str, Any]) -> list[dict[str, Any]]:
    job = {"PasserelleEndpointDown": {"job": "passerelle-endpoint"}}.get(rule["alert"], {})
    return [{"exp_labels": {**rule["labels"], "project": "flights", "environment": "production", **job}}]


@contextmanager
def _dashboard(project: Project) -> Iterator[int]:
    """The port of a project's dashboard."""
    settings = uvicorn.Config(make_app(project), port=0, lifespan="off", ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def _put(path: Path, **instead: str) -> None:
    """Put what differs here in place of what was written; each must be there."""
    text = path.read_text()
    for old, new in instead.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def test_an_alert_arrives_by_mail_and_webhook_and_so_does_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the loop's state by the dashboard, Prometheus and Alertmanager; a ticket calls nobody; silenced by label."""
    project = make_project(tmp_path / "project", BOTH)
    out = tmp_path / "out"
    password = tmp_path / "password"
    password.write_text("pass-word")
    with listening() as heard, mailing() as box, _dashboard(project) as port:
        monkeypatch.setenv(
            "MAIL", f"mailto://me:pass-word@127.0.0.1:{box.port}?from=am@here.example&to=ada@there.example"
        )
        export(project, "production", out, dashboard="127.0.0.1:8701", now=NOW)
        manager = free_port()
        quick = {"scrape_interval: 15s": "scrape_interval: 1s", "evaluation_interval: 15s": "evaluation_interval: 1s"}
        ports = {"127.0.0.1:8701": f"127.0.0.1:{port}", "127.0.0.1:9093": f"127.0.0.1:{manager}"}
        _put(out / "prometheus.yml", **quick, **ports)
        places = {"https://HOOK.invalid/": f"http://127.0.0.1:{heard.port}/am"}
        places |= {"/etc/alertmanager/secrets/MAIL": str(password)}
        _put(out / "alertmanager.yml", **places, **{"wait: 1m": "wait: 0s", "interval: 5m": "interval: 1s"})
        _settle(project, "performance")
        _settle(project, "quarantine")
        with running(out, alertmanager_port=manager):
            wait_for(lambda: heard.posts and box.mails, out)
            _settle(project, "performance", "quiet")
            wait_for(lambda: len(heard.posts) > 1 and len(box.mails) > 1, out)
            url = f"--alertmanager.url=http://127.0.0.1:{manager}"
            check("amtool", url, "silence", "add", "watch=quarantine", "environment=production", "-d", "4h", "-c", "x")
            known = json.loads(check("amtool", url, "alert", "query", "--silenced", "-o", "json"))
    assert [one["labels"]["watch"] for one in known] == ["quarantine"]
    posts = [value for _, value in heard.posts]
    assert [post["status"] for post in posts] == ["firing", "resolved"]
    assert [[one["labels"]["watch"] for one in post["alerts"]] for post in posts] == [["performance"]] * 2
    assert posts[0]["groupLabels"] == {"project": "flights", "environment": "production", "cause": "inputs"}
    receivers, mail = box.mails[0]
    assert (receivers, box.logins[0]) == (["ada@there.example"], "\0me\0pass-word")
    assert str(mail["Subject"]).split() == ["production:", "performance"]
    assert "Next: Look at the days that are named." in " ".join(text_of(mail).split())
