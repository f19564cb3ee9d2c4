"""The suite for people with an account: not collected but with --live, since it costs money."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

REASON = "tests/live asks real clouds and costs money: add --live and --live-settings FILE (docs/howto/live.md)"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options, known where this folder is named."""
    parser.addoption("--live", action="store_true", help="Ask real clouds, for money.")
    parser.addoption("--live-settings", type=Path, help="The targets to ask, as docs/howto/live.md says.")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Collect nothing here unless it is asked for."""
    return None if config.getoption("--live", default=False) else True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why nothing was run, to who has named this folder."""
    named = any(Path(one).resolve() == Path(__file__).parent for one in terminalreporter.config.args)
    if named and not terminalreporter.config.getoption("--live"):
        terminalreporter.write_line(REASON)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each target; none begins if all of them could cost more than the budget."""
    from account import read_account

    path = metafunc.config.getoption("--live-settings")
    if path is None:
        raise pytest.UsageError(REASON)
    account = read_account(path)
    account.refuse_over_budget()
    metafunc.parametrize("name", list(account.targets))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test ends when its money may be spent; its teardown is not cut."""
    from account import read_account

    mine = [item for item in items if item.path.parent == Path(__file__).parent]
    for item in mine:
        limit_s = read_account(config.getoption("--live-settings")).minutes * 60
        item.add_marker(pytest.mark.timeout(limit_s, method="signal", func_only=True))
