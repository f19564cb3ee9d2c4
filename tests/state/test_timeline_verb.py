"""passerelle timeline: what happened, a line each, the newest last."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from passerelle.cli import main
from passerelle.state.database import open_state
from passerelle.state.timeline import Event, record

NOW = datetime(2013, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[project]\nname = "a"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
    (tmp_path / "passerelle.toml").write_text(text)
    monkeypatch.chdir(tmp_path)


def _shown(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["timeline", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def _tell(tmp_path: Path) -> None:
    engine = open_state(tmp_path / ".passerelle")
    for minutes, kind, sentence in ((2, "version", "made"), (1, "run", "begun\n  and done"), (3, "deployment", "put")):
        at = NOW + timedelta(minutes=minutes)
        record(engine, Event(at=at, kind=kind, subject=f"s{minutes}", sentence=sentence, details={"number": minutes}))


def test_each_event_is_one_line_and_the_newest_is_the_last(tmp_path: Path) -> None:
    _tell(tmp_path)
    lines = (
        "2013-01-31 12:01  run         s1: begun and done\n",
        "2013-01-31 12:02  version     s2: made\n",
        "2013-01-31 12:03  deployment  s3: put\n",
    )
    assert _shown() == "".join(lines)
    assert _shown("--limit", "2") == "".join(lines[1:])
    assert _shown("--kind", "run") == lines[0]
    told = json.loads(_shown("--kind", "version", "--json"))
    assert [(one["at"], one["subject"], one["details"]) for one in told] == [
        ("2013-01-31T12:02:00Z", "s2", {"number": 2})
    ]


def test_where_nothing_is_found_it_says_what_there_is(tmp_path: Path) -> None:
    assert _shown() == "Nothing has happened yet.\n"
    assert _shown("--kind", "run") == "Nothing of the kind 'run' has happened yet; what has: nothing at all.\n"
    _tell(tmp_path)
    assert _shown("--kind", "runs") == (
        "Nothing of the kind 'runs' has happened yet; what has: deployment, run, version.\n"
    )
    assert json.loads(_shown("--kind", "runs", "--json")) == []


def test_a_limit_of_none_is_refused() -> None:
    assert CliRunner().invoke(main, ["timeline", "--limit", "0"]).exit_code == 2
