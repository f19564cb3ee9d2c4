"""`passerelle up`: what can only fail is refused before anything is started."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from passerelle.cli import main
from passerelle.project.scaffold import create
from passerelle.project.settings import FILE


@pytest.mark.parametrize(("verb", "option"), [("up", "--port"), ("up", "--dashboard-port"), ("serve", "--port")])
def test_what_is_no_port_is_refused_and_not_turned_into_another(verb: str, option: str) -> None:
    for port in ("99999", "-1"):
        result = CliRunner().invoke(main, [verb, option, port])
        assert result.exit_code == 2
        assert f"{port} is not in the range 0<=x<=65535" in result.output


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    create(folder, "shop", task="binary", language="en", time=True, today=date(2026, 3, 2))
    monkeypatch.chdir(folder)
    return folder


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["up", *arguments])
    assert result.exit_code == 1
    return result.output


def test_a_taken_port_is_refused_before_anything_is_trained(project: Path, taken: str) -> None:
    said = refused("--port", taken, "--dashboard-port", "0")
    assert f"port {taken} on 127.0.0.1 is in use: stop what uses it, or give another with --port." in said
    said = refused("--port", "0", "--dashboard-port", taken)
    assert f"port {taken} on 127.0.0.1 is in use: stop what uses it, or give another with --dashboard-port." in said
    assert "cannot share port 9123" in refused("--port", "9123", "--dashboard-port", "9123")
    assert not (project / ".passerelle" / "state.db").exists()


def test_an_address_of_another_machine_or_without_tokens_is_refused_too(project: Path) -> None:
    settings = project / FILE
    text = settings.read_text()
    for host, reason in (("192.0.2.1", "cannot be used"), ("0.0.0.0", "there is no token")):  # noqa: S104  (refused)
        settings.write_text(text.replace('# host = "127.0.0.1"', f'host = "{host}"'))
        assert reason in refused("--port", "0", "--dashboard-port", "0")
    assert not (project / ".passerelle" / "state.db").exists()
