"""What every test session has: in CI a skipped test is a failed one."""

from __future__ import annotations

import os

import pytest

# A model's threads would fight over the cores with the other worker's tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: Set by .ci/run: every system part is there, so that a skip means a hole.
NO_SKIPS = "PASSERELLE_NO_SKIPS"
#: In the only reason that is no hole: descriptions of interfaces that we may read and not keep; see CONTRIBUTING.
SPECS = "PASSERELLE_SPECS"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a session that skipped something, where that is asked for."""
    if os.environ.get(NO_SKIPS) == "1" and exitstatus == pytest.ExitCode.OK:
        holes = [report for report in _skipped(session.config) if SPECS not in str(report.longrepr)]
        if holes:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each skipped test and why, where skips count as failures."""
    if os.environ.get(NO_SKIPS) == "1":
        for report in _skipped(terminalreporter.config):
            where, line, reason = report.longrepr if isinstance(report.longrepr, tuple) else (report.nodeid, 0, "")
            counts = "" if SPECS in reason else ", which counts as failed here"
            terminalreporter.write_line(f"SKIPPED{counts}: {report.nodeid} ({reason}, {where}:{line})")


def _skipped(config: pytest.Config) -> list[pytest.TestReport]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    found: list[pytest.TestReport] = [] if reporter is None else reporter.stats.get("skipped", [])
    return [report for report in found if not hasattr(report, "wasxfail")]
