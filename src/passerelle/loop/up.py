"""Up: endpoint, loop and dashboard together, each a process of its own; one that dies is started again.

Each child's standard input is a pipe whose other end only this process holds: the system closes it however this
process ends, kill -9 included, and the child ends. The endpoint answers whether or not the other two run.
"""

from __future__ import annotations

import contextlib
import errno
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO
from urllib.parse import urlsplit

from passerelle.clock import Clock, system_clock
from passerelle.errors import PasserelleError
from passerelle.loop.rollout import PRODUCTION, revisions
from passerelle.project.settings import Project
from passerelle.serving.door import Door
from passerelle.serving.supervisor import ending_signals
from passerelle.serving.tokens import tokens_path

DASHBOARD_PORT = 8701
#: How often the children are looked at.
_TICK_S = 0.1
#: One that died is started again after this long, doubled each time, up to the most, if it had not lived long.
_BACKOFF_S, _MOST_BACKOFF_S, _LONG_LIFE_S = 0.2, 30.0, 60.0
#: One that was asked to end has ended by then, or is killed.
_STOP_S = 15.0
_READY = "ready "


class UpError(PasserelleError):
    """A part could not be started: correct what it said above, and run the command again."""


class Child:
    """One of the parts, and the process that runs it.

    ``module`` is run with ``arguments`` and, if it has one, its port; it prints ``ready URL`` once it answers there.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], *, port: int | None = None) -> None:
        self.name = name
        self.url: str | None = None
        #: What else it printed, errors too, until somebody takes it away.
        self.lines: deque[str] = deque(maxlen=1000)
        self._last = ""
        self._command = [sys.executable, "-X", "faulthandler", "-m", module, *arguments, "--until-stdin-closes"]
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self._listening: threading.Thread | None = None
        self._started = 0.0
        self._again_at = 0.0
        self._backoff_s = _BACKOFF_S

    @property
    def pid(self) -> int | None:
        """The process that runs it now."""
        return self._process.pid if self._process else None

    def tend(self) -> str | None:
        """Start it if it does not run and its time has come. A sentence, if it has just ended."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._again_at:
                self._start(now)
            return None
        code = self._process.poll()
        if code is None:
            return None
        self._gone()
        last, self._last = self._last, ""
        if now - self._started >= _LONG_LIFE_S:
            self._backoff_s = _BACKOFF_S
        pause, self._backoff_s = self._backoff_s, min(2 * self._backoff_s, _MOST_BACKOFF_S)
        self._again_at = now + pause
        if code < 0:
            return f"{self.name} was ended by {_signal(-code)}"
        return f"{self.name} ended with code {code}" + (f" (its last line: {last})" if last and code else "")

    @property
    def again_in_s(self) -> float:
        """How long until one that ended is started again."""
        return max(0.0, self._again_at - time.monotonic())

    def stop(self) -> None:
        """Ask it to end, and return when it has; by force if need be."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._gone()

    def _start(self, now: float) -> None:
        port = [] if self._port is None else ["--port", str(self._port)]
        # A session of its own: Ctrl-C reaches this process alone, which ends the others in their order.
        self._process = subprocess.Popen(  # noqa: S603  (our own module)
            [*self._command, *port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._started = now
        self._listening = threading.Thread(target=self._hear, args=(self._process.stdout,), daemon=True)
        self._listening.start()

    def _hear(self, stream: IO[str]) -> None:
        # Closed here: what a part started may outlive it for a moment, and hold the other end.
        with stream:
            for line in stream:
                if line.startswith(_READY):
                    self.url = line.removeprefix(_READY).strip()
                    # Port 0 took one that was free: whoever looks at it finds it there again.
                    self._port = urlsplit(self.url).port or self._port
                elif said := line.rstrip():
                    self.lines.append(said)
                    self._last = said

    def _gone(self) -> None:
        process, self._process = self._process, None
        if self._listening is not None:
            self._listening.join(1)
        if process is not None and process.stdin is not None:
            process.stdin.close()


def _signal(number: int) -> str:
    """A signal by its number and, where there is one, its name."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    why = ": by hand, or because memory ran out" if name == "SIGKILL" else ""
    return f"signal {number} ({name}{why})"


def parts(
    project: Project, *, port: int | None, dashboard_port: int, workers: int | None, loop: bool
) -> tuple[Child, Child | None, Child]:
    """Endpoint, loop and dashboard of a project. What is not given is as the project's settings say."""
    root = ["--root", str(project.root.resolve())]
    more = [] if workers is None else ["--workers", str(workers)]
    port = project.serving.port if port is None else port
    serving = [*root, "--environment", PRODUCTION, *more]
    return (
        Child("endpoint", "passerelle.serving.supervisor", serving, port=port),
        Child("loop", "passerelle.loop.process", root) if loop else None,
        Child("dashboard", "passerelle.dashboard.process", [*root, "--host", "127.0.0.1"], port=dashboard_port),
    )


def up(
    project: Project,
    *,
    port: int | None = None,
    dashboard_port: int = DASHBOARD_PORT,
    workers: int | None = None,
    loop: bool = True,
    say: Callable[[str], None],
) -> None:
    """Run the parts until SIGTERM or SIGINT, then end them: loop, dashboard, and the endpoint last.

    The endpoint is started as soon as there is a revision to answer with. ``say`` hears a line for each address, for
    each part that died, and for what the parts print, each with its time. Raises UpError if a port is taken, or if the
    endpoint or the dashboard cannot be started at all; ServingError if other machines could reach the endpoint and it
    has no tokens.
    """
    # Before a first version is trained: the endpoint is started after that, and what stops it can be known now.
    port = project.serving.port if port is None else port
    if port == dashboard_port != 0:
        raise UpError(f"endpoint and dashboard cannot share port {port}: give another with --dashboard-port.")
    _refuse_taken(project.serving.host, port, "--port")
    _refuse_taken("127.0.0.1", dashboard_port, "--dashboard-port")
    Door(tokens_path(project.state), host=project.serving.host)
    endpoint, looper, dashboard = parts(project, port=port, dashboard_port=dashboard_port, workers=workers, loop=loop)
    place = revisions(project, PRODUCTION)
    if looper is None:
        _timed(say, system_clock)("loop       none: nothing is retrained, tried or watched")
    run(endpoint, looper, dashboard, can_answer=lambda: bool(place.numbers()), say=say)


def _refuse_taken(host: str, port: int, option: str) -> None:
    """Raise UpError if nobody could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "is in use: stop what uses it, or" if taken else f"cannot be used ({error.strerror}):"
        raise UpError(f"port {port} on {host} {reason} give another with {option}. Nothing was started.") from error


def _timed(say: Callable[[str], None], clock: Clock) -> Callable[[str], None]:
    """Say each line with its time (UTC)."""
    return lambda line: say(f"{clock():%Y-%m-%d %H:%M:%S}  {line}")


def run(
    endpoint: Child,
    looper: Child | None,
    dashboard: Child,
    *,
    can_answer: Callable[[], bool],
    say: Callable[[str], None],
    clock: Clock = system_clock,
) -> None:
    """Run the parts until SIGTERM or SIGINT; the endpoint from when ``can_answer`` says that there is a revision."""
    say = _timed(say, clock)
    # The loop ends first, for it changes what the others show and answer with.
    crew = _Crew([one for one in (looper, dashboard) if one is not None], say)
    with ending_signals() as asked, contextlib.closing(crew):
        if can_answer():
            crew.add(endpoint)
        else:
            say("endpoint   none yet: it starts with the first revision")
        crew.starting = {one for one in crew.children if one is not looper}
        while not _asked_to_end(asked):
            if endpoint not in crew.children and can_answer():
                crew.add(endpoint)
            crew.tend()


class _Crew:
    """The parts that run, in the order in which they end."""

    def __init__(self, children: list[Child], say: Callable[[str], None]) -> None:
        self.children = children
        #: Those that must answer once before anything is started again: what stops them is for the user to correct.
        self.starting: set[Child] = set()
        self._say = say
        self._told: dict[str, str] = {}

    def add(self, child: Child) -> None:
        """One more; it ends last."""
        self.children.append(child)

    def tend(self) -> None:
        """Start what does not run, and say what is new."""
        for child in self.children:
            ended = child.tend()
            self._pass_on(child)
            if ended is not None:
                if child in self.starting:
                    raise UpError(f"{ended} before it was ready: correct that, and run the command again.")
                self._say(f"{ended}; it is started again in {child.again_in_s:.1f} s")
            if child.url is not None and self._told.get(child.name) != child.url:
                self._told[child.name] = child.url
                self.starting.discard(child)
                self._say(f"{child.name:<10} {child.url}")

    def close(self) -> None:
        """End them."""
        for child in self.children:
            child.stop()
            self._pass_on(child)

    def _pass_on(self, child: Child) -> None:
        while child.lines:
            self._say(child.lines.popleft())


def _asked_to_end(asked: int) -> bool:
    """Wait a tick; is it time to end?"""
    readable, _, _ = select.select([asked], [], [], _TICK_S)
    return bool(readable)
