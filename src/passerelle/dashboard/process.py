"""``python -m passerelle.dashboard.process``: one process that shows one environment of a project."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from passerelle.dashboard.app import make_app
from passerelle.errors import PasserelleError, ServingError
from passerelle.loop.rollout import PRODUCTION
from passerelle.project.settings import FILE, Project, load_project
from passerelle.serving.workers import server_config


def show(project: Project, *, environment: str, host: str, port: int, until_stdin_closes: bool = False) -> None:
    """Show an environment until SIGTERM or SIGINT, or until standard input is at its end.

    Prints ``ready URL`` once it answers; port 0 takes any that is free. Raises ServingError if the port is taken, or if
    other machines can reach ``host`` and the project has no token.
    """
    app = make_app(project, environment=environment, host=host)
    with _bound(host, port) as listener:
        server = _Server(server_config(app), _url(listener))
        if until_stdin_closes:
            threading.Thread(target=_stop_at_end, args=(server,), daemon=True).start()
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn, which says when it answers."""

    def __init__(self, settings: uvicorn.Config, url: str) -> None:
        super().__init__(settings)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn."""
        await super().startup(sockets)
        print(f"ready {self._url}", flush=True)  # noqa: T201  (whoever started it waits for this line)


def _stop_at_end(server: uvicorn.Server) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.should_exit = True


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        reason = (
            "is taken: name another with --port, or end what listens there" if taken else f"cannot be used ({error})"
        )
        raise ServingError(f"{host}:{port} {reason}.") from error
    listener.set_inheritable(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments and show."""
    parser = argparse.ArgumentParser(prog="passerelle.dashboard.process", description="Show a project's dashboard.")
    parser.add_argument("--root", type=Path, required=True, help="The project's folder.")
    parser.add_argument("--environment", default=PRODUCTION)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8701, help="0 for any that is free.")
    parser.add_argument("--until-stdin-closes", action="store_true", help="End when whoever started this ends.")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s dashboard %(levelname)s %(message)s")
    try:
        show(
            load_project(given.root / FILE),
            environment=given.environment,
            host=given.host,
            port=given.port,
            until_stdin_closes=given.until_stdin_closes,
        )
    except PasserelleError as error:
        sys.exit(f"passerelle: {error}")


if __name__ == "__main__":
    main()
