"""Workers: one process that answers on the shared socket, obeys the newest revision, and ends with its parent."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import uvicorn
import uvloop

from passerelle.bundle.opening import open_scorer as open_bundle
from passerelle.deployment.spec import Auth, Deployment, Revisions, environment_folder
from passerelle.errors import PasserelleError
from passerelle.ledger.segments import Writer
from passerelle.ledger.storage import ledger_folder, open_storage
from passerelle.project.settings import FILE, Project, load_project
from passerelle.serving.active import OpenScorer
from passerelle.serving.connection import Connection
from passerelle.serving.contracts import add_contracts
from passerelle.serving.door import Door
from passerelle.serving.http import Http, Limits
from passerelle.serving.observation import Observation, observe, observed
from passerelle.serving.service import Recorder, Service
from passerelle.serving.tokens import tokens_path

LOOK_AGAIN_S = 0.2
#: After how long a revision that could not be loaded is tried again.
TRY_AGAIN_S = 10.0
#: Requests in flight are given this long to end, and all the rest the remainder of the five seconds.
DRAIN_S = 3
#: A worker whose parent is gone, and which has not ended by then, is ended.
ORPHAN_S = 10.0

_log = logging.getLogger("passerelle.serving")


class Watcher:
    """Brings a service to the newest revision, and says in ``observed/`` which one it has reached."""

    def __init__(self, service: Service, environment: Path, slot: str) -> None:
        self._service = service
        self._environment = environment
        self._slot = slot
        self._revisions = Revisions(environment)
        self._refused: tuple[int, float] | None = None

    async def first(self) -> None:
        """Apply the newest revision; if it cannot be loaded, the last one that a worker here did apply."""
        last = max((one.revision or 0 for one in observed(self._environment).values()), default=0)
        await self._follow()
        if self._service.revision is None and self._refused is not None and 0 < last < self._refused[0]:
            _log.warning("revision %d answers until %d can be loaded", last, self._refused[0])
            problem = self._service.problem
            with contextlib.suppress(PasserelleError):
                await self._service.apply(self._revisions.get(last))
            if problem is not None:
                self._service.refuse(problem.revision, problem.reason)
        self._say()

    async def look(self) -> None:
        """Apply the newest revision if it is not the one that answers."""
        if await self._follow():
            self._say()

    async def _follow(self) -> bool:
        newest = (self._revisions.numbers() or [0])[-1]
        if newest <= (self._service.revision or 0):
            return False
        now = asyncio.get_running_loop().time()
        if self._refused is not None and self._refused[0] == newest and now < self._refused[1] + TRY_AGAIN_S:
            return False
        try:
            await self._service.apply(self._revisions.get(newest))
        except PasserelleError as error:
            if self._refused is None or self._refused[0] != newest:
                _log.warning("revision %d cannot be loaded: %s", newest, error)
            self._refused = (newest, asyncio.get_running_loop().time())
            self._service.refuse(newest, str(error))
        else:
            self._refused = None
        return True

    async def watch(self, door: Door) -> None:
        """Look again, five times a second, for ever."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                door.refresh()
                await self.look()
            except Exception:  # noqa: BLE001  (whoever watches must not stop watching)
                _log.exception("the worker could not look for a new revision; it will look again")

    def _say(self) -> None:
        problem = self._service.problem
        observe(
            self._environment,
            self._slot,
            Observation(
                pid=os.getpid(),
                revision=self._service.revision,
                at=datetime.now(UTC),
                refused=problem.revision if problem else None,
                problem=problem.reason if problem else None,
            ),
        )


class _Server(uvicorn.Server):
    """Uvicorn, without its signal handlers: it would end the process by the signal before the ledger is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def work(
    project: Project,
    environment: str,
    *,
    slot: str,
    host: str,
    listener: socket.socket,
    lifeline: int,
    open_scorer: OpenScorer,
    auth: Auth = "tokens",
    contracts: bool = False,
) -> None:
    """Serve until SIGTERM, or until the other end of ``lifeline`` is closed, then drain.

    ``auth`` and ``contracts`` are a container's: see serving.container.
    """
    loop = asyncio.get_running_loop()
    folder = environment_folder(project.state, environment)

    def open_recorder(deployment: Deployment) -> Recorder:
        mode = deployment.ledger
        storage = open_storage(deployment.ledger_at, ledger_folder(project.state, environment))
        return Writer(storage, slot=slot if mode == "durable" else f"{slot}-{mode}", mode=mode)

    service = Service(
        open_scorer=open_scorer, open_recorder=open_recorder, deadline_s=project.serving.deadline_ms / 1000
    )
    door = Door(tokens_path(project.state), host=host, auth=auth)
    limits = Limits(max_rows=project.serving.max_rows, max_body_bytes=project.serving.max_body_bytes)
    http = Http(service, door, limits=limits)
    if contracts:
        add_contracts(http, service, limits=limits)
    server = _Server(server_config(http))

    def stop() -> None:
        server.should_exit = True

    def orphaned() -> None:
        loop.remove_reader(lifeline)
        killer = threading.Timer(ORPHAN_S, os._exit, (1,))
        killer.daemon = True
        killer.start()
        stop()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_reader(lifeline, orphaned)
    watcher = Watcher(service, folder, slot)
    await watcher.first()
    watching = loop.create_task(watcher.watch(door))
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()
        await service.close()


def server_config(app: Callable[..., Any]) -> uvicorn.Config:
    """How uvicorn serves an application of ours."""
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_S,
    )


def main(arguments: Sequence[str] | None = None, *, open_scorer: OpenScorer | None = None) -> None:
    """``python -m passerelle.serving.workers``: started by the supervisor, which hands over socket and lifeline."""
    parser = argparse.ArgumentParser(prog="passerelle.serving.workers")
    for name, kind in (
        ("root", Path),
        ("environment", str),
        ("slot", str),
        ("host", str),
        ("listener", int),
        ("lifeline", int),
    ):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--auth", choices=get_args(Auth), default="tokens")
    parser.add_argument("--contracts", action="store_true", help="with the routes of clouds and other servers")
    parser.add_argument("--python", help="the interpreter of models that serve from a process of their own")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format=f"%(asctime)s {given.slot} %(levelname)s %(message)s")
    project = load_project(given.root / FILE)
    os.chdir(project.root)  # a revision names bundles from there
    running = work(
        project,
        given.environment,
        slot=given.slot,
        host=given.host,
        listener=socket.socket(fileno=given.listener),
        lifeline=given.lifeline,
        open_scorer=open_scorer or partial(open_bundle, python=given.python),
        auth=given.auth,
        contracts=given.contracts,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(running)
    except PasserelleError as error:
        sys.exit(f"{given.slot}: {error}")


if __name__ == "__main__":
    main()
