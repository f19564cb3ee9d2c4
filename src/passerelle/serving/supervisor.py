"""Supervisor: one port, some workers. It binds the port, starts the workers on it, starts again those that die.

The listening socket is the supervisor's, and every worker inherits it: when a worker is killed, connections that
nobody has accepted yet stay in the socket's queue and go to another worker, or to its successor. (With SO_REUSEPORT
each worker has a queue of its own, and its connections die with it.)

Each worker holds the reading end of a pipe whose writing end only the supervisor has: the system closes it however the
supervisor ends, kill -9 included, and the workers drain and end.

Workers face the network, so they are started without the secrets in this process's environment: the signing key first.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from passerelle.deployment.spec import Auth, Revisions, environment_folder
from passerelle.errors import DeploymentError, PasserelleError, ServingError
from passerelle.notebook.environment import without_secrets
from passerelle.project.settings import FILE, Project, load_project
from passerelle.serving.door import Door
from passerelle.serving.endpoint import STOP_S, Endpoint, start_endpoint
from passerelle.serving.measures import FOLDER_VARIABLE
from passerelle.serving.observation import forget, is_alive, observed
from passerelle.serving.tokens import tokens_path

__all__ = ["Endpoint", "ending_signals", "serve", "start_endpoint", "url_of"]

# A worker that crashes in native code says where: in what thread, at which line.
WORKER = (sys.executable, "-X", "faulthandler", "-m", "passerelle.serving.workers")
#: How often the supervisor looks at its workers.
_TICK_S = 0.1
#: A worker that died is started again after this long, doubled each time, up to the most, if it had not lived long.
_BACKOFF_S, _MOST_BACKOFF_S, _LONG_LIFE_S = 0.1, 5.0, 10.0
_BACKLOG = 2048
#: Of the variables that say to an object store who we are.
_OF_STORES = ("AWS_", "AZURE_", "GOOGLE_", "MSI_", "IDENTITY_", "STORAGE_EMULATOR_")


def serve(
    project: Project,
    environment: str,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    command: Sequence[str] = WORKER,
    until_closed: int | None = None,
    listener: socket.socket | None = None,
    auth: Auth = "tokens",
) -> None:
    """Serve an environment until SIGTERM or SIGINT, or until the file ``until_closed`` is at its end.

    Host, port and workers are the project's where they are not given. ``listener`` is a socket that listens already,
    and ``auth`` says who decides on requests: both are a container's (serving.container).

    Prints one line with the address once every worker answers. Raises ServingError if the port is taken, if there is no
    revision, if the first one cannot be loaded, if another process serves the environment, or if other machines could
    reach it and it has no tokens.
    """
    settings = project.serving
    host = settings.host if host is None else host
    port = settings.port if port is None else port
    workers = settings.workers if workers is None else workers
    folder = environment_folder(project.state, environment)
    if not Revisions(folder).numbers():
        raise ServingError(
            f"{environment} has no revision yet: make one with passerelle deploy VERSION --to {environment}."
        )
    Door(tokens_path(project.state), host=host, auth=auth)
    bound = contextlib.nullcontext(listener) if listener is not None else bound_socket(host, port)
    with _alone(folder), bound as at, _measures(folder) as measures:
        forget(folder, workers=workers)
        crew = [
            _Worker(
                f"w{number}",
                [*command, "--root", str(project.root), "--environment", environment, "--host", host],
                at,
                {**_variables(folder), FOLDER_VARIABLE: str(measures)},
            )
            for number in range(workers)
        ]
        _run(crew, folder, url_of(at), until_closed)


def _variables(folder: Path) -> dict[str, str]:
    """What a worker sees of our environment: no secrets, but those by which it writes a ledger that is kept afar.

    The model's own process sees none of them either way (notebook.environment.allowed_environment).
    """
    variables = without_secrets(os.environ)
    current = None
    with contextlib.suppress(DeploymentError):  # damaged: the workers say so
        current = Revisions(folder).current()
    if current is not None and "://" in (current.ledger_at or ""):
        variables |= {name: value for name, value in os.environ.items() if name.startswith(_OF_STORES)}
    return variables


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Worker:
    """One slot, and the process that fills it."""

    def __init__(self, slot: str, command: list[str], listener: socket.socket, variables: dict[str, str]) -> None:
        self.slot = slot
        self._command = command
        self._listener = listener
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self._started = 0.0
        self._backoff_s = _BACKOFF_S
        self._again_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process that fills the slot now."""
        return self._process.pid if self._process else None

    def tend(self) -> int | None:
        """Start the worker if it does not run and its time has come; the code of one that has just ended."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._again_at:
                self._start(now)
            return None
        code = self._process.poll()
        if code is not None:
            self._process = None
            os.close(self._lifeline)
            if now - self._started >= _LONG_LIFE_S:
                self._backoff_s = _BACKOFF_S
            self._again_at = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, _MOST_BACKOFF_S)
        return code

    def stop(self) -> None:
        """Ask it to drain and end."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, until: float) -> None:
        """Return when it has ended, by force if need be."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._lifeline)

    def _start(self, now: float) -> None:
        reading, self._lifeline = os.pipe()
        listener = self._listener.fileno()
        try:
            # A session of its own: Ctrl-C reaches the supervisor alone, which lets its workers drain.
            self._process = subprocess.Popen(  # noqa: S603  (our own worker)
                [*self._command, "--slot", self.slot, "--listener", str(listener), "--lifeline", str(reading)],
                pass_fds=(listener, reading),
                env=self._variables,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(reading)
        self._started = now


def _run(crew: Sequence[_Worker], folder: Path, url: str, until_closed: int | None) -> None:
    announced = False
    try:
        with ending_signals() as asked:
            while not _ends(asked, until_closed):
                for worker in crew:
                    if (code := worker.tend()) is not None:
                        if not announced:
                            raise ServingError(f"worker {worker.slot} ended with code {code}: what it said is above.")
                        _say(f"worker {worker.slot} ended with code {code}; it is started again")
                if not announced and _all_answer(crew, folder):
                    announced = True
                    print(f"ready {url}", flush=True)  # noqa: T201  (the one line that callers wait for)
    finally:
        for worker in crew:
            worker.stop()
        until = time.monotonic() + STOP_S
        for worker in crew:
            worker.wait(until)


@contextlib.contextmanager
def ending_signals() -> Iterator[int]:
    """A file that becomes readable when SIGTERM or SIGINT has come."""
    asked, ask = os.pipe()
    os.set_blocking(ask, False)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda _number, _frame: os.write(ask, b".")) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(asked)
        os.close(ask)


def _ends(asked: int, until_closed: int | None) -> bool:
    """Wait a tick; is it time to stop?"""
    files = [asked] if until_closed is None else [asked, until_closed]
    readable, _, _ = select.select(files, [], [], _TICK_S)
    return asked in readable or (until_closed is not None and until_closed in readable and not os.read(until_closed, 1))


def _all_answer(crew: Sequence[_Worker], folder: Path) -> bool:
    """Have all workers loaded a revision? Raises ServingError with the reason if one could not load any."""
    try:
        seen = observed(folder)
    except msgspec.DecodeError:
        return False
    current = [seen.get(worker.slot) for worker in crew]
    for worker, one in zip(crew, current, strict=True):
        if one is not None and one.pid == worker.pid and one.revision is None and one.problem is not None:
            raise ServingError(f"revision {one.refused} cannot be served: {one.problem}")
    return all(
        one is not None and one.pid == worker.pid and one.revision is not None
        for worker, one in zip(crew, current, strict=True)
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the environment: two endpoints would write to the same slots of the ledger."""
    with (folder / "serve.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ServingError(
                f"{folder.name} is served already, by process {file.read().strip()}: stop it first."
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        _wait_for_orphans(folder)
        yield


def _wait_for_orphans(folder: Path) -> None:
    """The workers of a supervisor that was killed are draining: let them end, since they hold the ledger's slots."""
    until = time.monotonic() + STOP_S
    while time.monotonic() < until and any(is_alive(one.pid) for one in observed(folder).values()):
        time.sleep(_TICK_S)


@contextlib.contextmanager
def bound_socket(host: str, port: int, *, advice: str | None = None) -> Iterator[socket.socket]:
    """A socket that listens, for as long as a with block lasts. Raises ServingError, with this advice on the port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ServingError(
            f"{host!r} is not an address of this machine ({error}): give another with --host."
        ) from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every accepted connection: an answer is never held back for the last one's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                other = advice or f"give another: --port {port + 1}"
                raise ServingError(f"port {port} on {host} is in use: stop what uses it, or {other}.") from error
            raise ServingError(
                f"port {port} on {host} cannot be used ({error}): {advice or 'give another with --port'}."
            ) from error
        yield listener


@contextlib.contextmanager
def _measures(folder: Path) -> Iterator[Path]:
    """The folder in which the workers count; empty at the start, as after every restart of a process."""
    path = folder / "measures"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201  (a daemon's log)


def main(arguments: Sequence[str] | None = None, *, command: Sequence[str] = WORKER) -> None:
    """``python -m passerelle.serving.supervisor``: serve until told to stop."""
    parser = argparse.ArgumentParser(prog="passerelle.serving.supervisor")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--environment", required=True)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when the process that started it ends")
    given = parser.parse_args(arguments)
    try:
        serve(
            load_project(given.root / FILE),
            given.environment,
            host=given.host,
            port=given.port,
            workers=given.workers,
            command=command,
            until_closed=sys.stdin.fileno() if given.until_stdin_closes else None,
        )
    except PasserelleError as error:
        _say(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
