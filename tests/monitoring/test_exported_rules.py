"""What is exported: the rules that hold, on metrics that there are, and no secret."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from watched import make_project

from passerelle.cli import main
from passerelle.errors import SettingsError
from passerelle.monitoring.alertmanager import alertmanager_file
from passerelle.monitoring.alerts import Finding, settle
from passerelle.monitoring.export import export
from passerelle.monitoring.gauges import exposition
from passerelle.monitoring.looking import LOOKED
from passerelle.monitoring.prometheus import rules_file
from passerelle.monitoring.rules import DEFAULTS, rule_of
from passerelle.monitoring.windows import Window, keep_window
from passerelle.project.settings import Project
from passerelle.serving.measures import Measures
from passerelle.state.database import open_state, writing

NOW = datetime(2013, 2, 1, tzinfo=UTC)
CHANNELS = '[alerts]\nchannels = ["HOOK", "MAIL", "SLACK", "OTHER", "MISSING"]\n'
ADDRESSES = {
    "HOOK": "https://hook.example/services/s3cret-path",
    "MAIL": "mailtos://me:s3cret-word@smtp.example.org?to=on@call.example",
    "SLACK": "slack://TAAAAAAAA/BBBBBBBBB/s3cretccccccccccccccccccc/#ops",
    "OTHER": "tgram://123456789:abcdefg_s3cret/12315544/",
    "MISSING": None,
}


def _rules(project: Project, *, minutes: float = 30.0) -> dict[str, dict[str, Any]]:
    [group] = yaml.safe_load(rules_file(project, "production", allowed_minutes=minutes))["groups"]
    return {one["alert"]: one for one in group["rules"] if "alert" in one}


def test_every_rule_that_is_not_off_is_there_with_its_level_cause_and_action(tmp_path: Path) -> None:
    more = '[[rules]]\nwatch = "ledger"\nlevel = "off"\n'
    more += '[[rules]]\nwatch = "volume"\nlevel = "ticket"\naction = "Ask {{ me }}."\n'
    found = _rules(make_project(tmp_path, more))
    assert {one["labels"]["watch"] for one in found.values()} == set(DEFAULTS) - {"ledger"}
    assert found["PasserellePerformance"]["labels"] == {"watch": "performance", "level": "page", "cause": "inputs"}
    assert found["PasserelleInputDrift"]["labels"] == {"watch": "input_drift", "level": "ticket", "cause": "inputs"}
    assert found["PasserelleErrors"]["annotations"]["action"] == DEFAULTS["errors"].action
    assert found["PasserelleVolume"]["labels"]["level"] == "ticket"
    assert found["PasserelleVolume"]["annotations"]["action"] == 'Ask {{ "{{" }} me }}.'
    assert found["PasserelleLoopStopped"]["labels"]["level"] == "page"


@pytest.mark.parametrize(
    ("limit_ms", "compared", "bound"),
    [(1000, "> 1\n", 'le=~"1|1.0"'), (300, "> 0.3\n", 'le=~"0.5|0.5"'), (60000, ">= 10\n", 'le=~"10|10.0"')],
)
def test_thresholds_are_the_project_s(tmp_path: Path, limit_ms: int, compared: str, bound: str) -> None:
    found = _rules(make_project(tmp_path, f'[[rules]]\nwatch = "latency"\nthreshold = {limit_ms}\n'), minutes=89.2)
    latency = found["PasserelleLatency"]["expr"]
    assert compared in latency
    assert bound in latency
    assert "[90m]" in found["PasserelleSilence"]["expr"]


def _labels(text: str) -> dict[str, set[str]]:
    """Each series → the names of its labels."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"\b(passerelle_\w+)(?:\{(.*?)\})?", text):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=~?\"", labels))
    return found


def test_rules_read_metrics_and_labels_that_there_are(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    measures = Measures()
    measures.events.labels("1", "live", "scored").inc()
    measures.requests.labels("/predict", "200").inc()
    measures.seconds.labels("/predict").observe(0.1)
    told = [measures.exposition(), exposition(open_state(project.state), project, "production")]
    there = _labels("\n".join(line for one in told for line in one.decode().splitlines() if line[0] != "#"))
    read = _labels(rules_file(project, "production", allowed_minutes=30))
    assert len(read) == 6
    of_the_target = {"project", "environment"}
    for name, labels in read.items():
        assert labels - there[name] == of_the_target, name


def test_the_gauges_say_what_was_measured_and_nan_for_what_was_not(tmp_path: Path) -> None:
    project = make_project(tmp_path, '[[rules]]\nwatch = "ledger"\nlevel = "off"\n')
    engine = open_state(project.state)
    before = exposition(engine, project, "production").decode()
    for name in ("loop_look_timestamp_seconds", "day_loss", 'evidence{watch="performance"}'):
        assert f"\npasserelle_{name} NaN\n" in before
    assert "ledger" not in before
    with writing(engine) as connection:
        found = Finding(state="firing", sentence="!", day=NOW)
        settle(connection, "production", rule_of(project, "input_drift"), found, now=NOW)
        day = {"loss": 0.25, "expected": 0.2, "evidence": 7.5}
        for watch, value in (("performance", day), ("input_drift", {"mean": 2.0}), (LOOKED, {"at": NOW.isoformat()})):
            keep_window(connection, "production", Window(start=NOW, watch=watch, value=value))
    lines = exposition(engine, project, "production").decode().splitlines()
    for line in (
        'alert_open{level="ticket",watch="input_drift"} 1.0',
        'alert_open{level="page",watch="performance"} 0.0',
        "day_loss 0.25",
        "day_expected_loss 0.2",
        'evidence{watch="performance"} 7.5',
        'evidence{watch="input_drift"} 2.0',
        'evidence{watch="score_drift"} NaN',
        'evidence_threshold{watch="performance"} 365.0',
        'measured_day_timestamp_seconds{watch="performance"} 1.3596768e+09',
        "loop_look_timestamp_seconds 1.3596768e+09",
    ):
        assert f"passerelle_{line}" in lines


def test_no_secret_is_written_and_each_channel_says_where_its_own_goes(tmp_path: Path) -> None:
    project = make_project(tmp_path, CHANNELS)
    text = alertmanager_file(project, ADDRESSES)
    assert "s3cret" not in text
    pages = yaml.safe_load(text)["receivers"][1]
    assert [one["url"] for one in pages["webhook_configs"]] == [
        "https://HOOK.invalid/",
        "https://OTHER.invalid/",
        "https://MISSING.invalid/",
    ]
    [mail] = pages["email_configs"]
    assert (mail["to"], mail["smarthost"], mail["require_tls"]) == ("on@call.example", "smtp.example.org:587", True)
    assert (mail["auth_username"], mail["auth_password_file"]) == ("me", "/etc/alertmanager/secrets/MAIL")
    [slack] = pages["slack_configs"]
    assert (slack["channel"], slack["api_url_file"]) == ("#ops", "/etc/alertmanager/secrets/SLACK")
    for said in ("HOOK is a plain webhook", "OTHER is a service", "MISSING is not set", "the password of MAIL"):
        assert said in text


def test_without_a_channel_it_says_that_nobody_is_called(tmp_path: Path) -> None:
    text = alertmanager_file(make_project(tmp_path), {})
    assert "pages reach nobody" in text
    assert [one["name"] for one in yaml.safe_load(text)["receivers"]] == ["tickets", "pages"]


def test_somebody_s_own_file_is_not_written_over(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    own = tmp_path / "out" / "prometheus.yml"
    own.parent.mkdir()
    own.write_text("global: {}\n")
    with pytest.raises(SettingsError, match="is not of an earlier export"):
        export(project, "production", own.parent, dashboard="127.0.0.1:8701", now=NOW)
    assert [path.name for path in own.parent.iterdir()] == ["prometheus.yml"]
    own.unlink()
    for _ in range(2):
        written = export(project, "production", own.parent, dashboard="127.0.0.1:8701", now=NOW)
    assert sorted(path.name for path in own.parent.iterdir()) == sorted(path.name for path in written)


def test_the_verb_writes_the_files_and_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["alerts", "export", "out"])
    assert done.output.split() == ["out/passerelle.rules.yml", "out/prometheus.yml", "out/alertmanager.yml"]
    scraped = yaml.safe_load((tmp_path / "out" / "prometheus.yml").read_text())["scrape_configs"]
    assert [one["static_configs"][0]["targets"] for one in scraped] == [["127.0.0.1:8700"], ["127.0.0.1:8701"]]
    assert "[1440m]" in (tmp_path / "out" / "passerelle.rules.yml").read_text()  # until its own days are known
    slip = CliRunner().invoke(main, ["alerts", "export", "out", "--to", "prodution"])
    assert (slip.exit_code, "nothing is deployed in prodution" in slip.output) == (1, True)
