"""`passerelle inject` against a real endpoint: what was sent is what was recorded."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from steps import PASSERELLE, run, run_json

from passerelle.cli import main
from passerelle.errors import DataError, DeploymentError
from passerelle.loop.injecting import events_to_send
from passerelle.project.settings import FILE, load_project
from passerelle.serving.events import Event
from passerelle.serving.tokens import make_token, tokens_path

UA = {"distance": 250, "carrier": "UA", "plane": None}
START = datetime(2013, 2, 1, tzinfo=UTC)


def write_events(folder: Path, count: int, **changes: Any) -> Path:
    path = folder / "sent.jsonl"
    rows = [
        {"id": f"e{number}", "at": f"2013-02-01T{number:02}:00:00Z", "inputs": {**UA, **changes}}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_events_of_a_file_are_recorded_once_under_their_ids(land: Any) -> None:
    land.deploy(7)
    file = write_events(land.project.root, 20)
    with land.serve() as endpoint:
        done = run_json(
            "inject", file.name, "--rate", "100", "--seconds", "0.5", "--to", endpoint.url, cwd=land.project.root
        )
    assert (done["due"], done["answered"], done["events"], done["errors"], done["passes"]) == (50, 50, 50, {}, 3)
    assert done["to"] == f"{endpoint.url}/predict"
    assert done["latency_ms"]["p50"] <= done["latency_ms"]["p99_9"] <= done["latency_ms"]["max"]
    records = land.records()
    assert len(records) == 50
    assert len({record.id for record in records}) == 50
    assert {f"e{number}" for number in range(20)} <= {record.id for record in records}
    hours = Counter(record.event_at.hour for record in records)
    assert hours == {hour: 3 if hour < 10 else 2 for hour in range(20)}


def test_a_replay_keeps_the_order_and_the_gaps_of_the_events(land: Any) -> None:
    land.deploy(7)
    file = write_events(land.project.root, 12)
    with land.serve() as endpoint:
        said = run("inject", str(file), "--warp", "36000", "--batch", "2", "--to", endpoint.url, cwd=land.project.root)
    assert "requests   6 due, 6 sent, 6 answered in 1.0 s" in said
    assert "events     12 answered, 2 to a request, 0 failed" in said
    records = sorted(land.records(), key=lambda record: record.received_at)
    assert [record.event_at.hour for record in records] == list(range(12))
    received = [record.received_at.timestamp() for record in records[::2]]
    assert [after - received[0] for after in received] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0], abs=0.1)


def test_failed_events_and_refused_ones_end_with_code_1(land: Any) -> None:
    land.deploy(7)
    file = write_events(land.project.root, 3, distance="far")
    with land.serve() as endpoint:
        said = run("inject", str(file), "--rate", "50", "--to", endpoint.url, cwd=land.project.root, code=1)
    assert "errors     3 status 422" in said
    assert "distance" in said


def test_a_token_is_taken_from_the_environment_and_shown_nowhere(land: Any) -> None:
    land.deploy(7)
    secret = make_token(tokens_path(land.project.state), name="load", scopes=("predict",), created_at=START)
    file = write_events(land.project.root, 3)
    arguments = ("inject", str(file), "--rate", "50")
    with land.serve() as endpoint:
        without = run(*arguments, "--to", endpoint.url, cwd=land.project.root, code=1)
        said = run(
            *arguments, "--to", endpoint.url, "--token-from", "LOAD_TOKEN", cwd=land.project.root, LOAD_TOKEN=secret
        )
    assert "errors     3 status 401" in without
    assert "Nothing was answered: there are no figures to judge." in without
    assert "3 answered" in said
    assert secret not in said


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["inject", *arguments])
    assert result.exit_code == 2
    return result.output


def test_nothing_leaves_this_machine_by_accident(tmp_path: Path) -> None:
    said = refused(str(write_events(tmp_path, 3)), "--rate", "5", "--to", "http://192.0.2.1:8700")
    assert "192.0.2.1:8700 is not this machine, and nothing was sent" in said
    assert "--yes-to 192.0.2.1:8700" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "say how fast"),
        (("--rate", "5", "--warp", "2"), "one of the two: --rate requests a second, or --warp"),
        (("--warp", "2", "--poisson"), "--poisson needs a --rate"),
        (("--rate", "5", "--token-from", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE holds no token"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in refused(str(write_events(tmp_path, 3)), *arguments)


def test_ctrl_c_prints_the_report_so_far_and_a_terminal_sees_it_come(land: Any) -> None:
    land.deploy(7)
    file = write_events(land.project.root, 10)
    parent, terminal = pty.openpty()
    with land.serve() as endpoint:
        process = subprocess.Popen(
            [str(PASSERELLE), "inject", str(file), "--rate", "50", "--seconds", "600", "--to", endpoint.url],
            cwd=land.project.root,
            stdout=subprocess.PIPE,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
            text=True,
        )
        os.close(terminal)
        seen = b""
        until = time.monotonic() + 20
        while seen.count(b" answered") < 3 and time.monotonic() < until:
            seen += os.read(parent, 4096)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=10)
    os.close(parent)
    assert seen.count(b" answered") >= 3
    assert process.returncode == 0
    assert "requests   30,000 due" in said
    assert "ended by hand" in said
    assert "errors     none" in said


CONTRACT = """
[events.columns]
id = { kind = "string" }
flown_at = { kind = "timestamp" }
distance = { kind = "number" }
carrier = { kind = "string" }
plane = { kind = "string", nullable = true }
gate = { kind = "string" }
"""


def test_rows_are_asked_their_lead_before_their_time(land: Any) -> None:
    land.deploy(7)
    root = land.project.root
    (root / FILE).write_text((root / FILE).read_text() + 'time = "flown_at"\nlead_hours = 2\n')
    (root / "contract.toml").write_text(CONTRACT)
    file = root / "rows.csv"
    file.write_text(
        "id,flown_at,distance,carrier,plane\na,2013-02-01T07:00:00Z,100,UA,N1\nb,2013-02-01T09:30:00Z,200,AA,\n"
    )
    sent = events_to_send(load_project(root / FILE), file, environment="production")
    assert sent == [
        Event(id="a", at=START.replace(hour=5), inputs={"distance": 100.0, "carrier": "UA", "plane": "N1"}),
        Event(id="b", at=START.replace(hour=7, minute=30), inputs={"distance": 200.0, "carrier": "AA", "plane": None}),
    ]
    with land.serve() as endpoint:
        done = run_json("inject", str(file), "--warp", "18000", "--to", endpoint.url, cwd=root)
    assert (done["answered"], done["events"], done["asked_per_s"]) == (2, 2, 4.0)
    assert (done["judged"], done["doubts"]) == (False, [])
    assert {record.id: record.event_at.hour for record in land.records()} == {"a": 5, "b": 7}


def test_rows_need_something_deployed_and_all_fields(land: Any) -> None:
    root = land.project.root
    (root / "contract.toml").write_text("")
    file = root / "rows.csv"
    file.write_text("id,distance,carrier\na,100,UA\n")
    with pytest.raises(DeploymentError, match="nothing is deployed in production"):
        events_to_send(land.project, file, environment="production")
    land.deploy(7)
    with pytest.raises(DataError, match=r"rows\.csv lacks plane"):
        events_to_send(land.project, file, environment="production")
