"""`passerelle up`: what can only fail is refused before anything is started."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from passerelle.cli import main


@pytest.mark.parametrize(("verb", "option"), [("up", "--port"), ("up", "--dashboard-port"), ("serve", "--port")])
def test_what_is_no_port_is_refused_and_not_turned_into_another(verb: str, option: str) -> None:
    for port in ("99999", "-1"):
        result = CliRunner().invoke(main, [verb, option, port])
        assert result.exit_code == 2
        assert f"{port} is not in the range 0<=x<=65535" in result.output
