"""A part of `passerelle up` in these tests: it listens, notes what becomes of it, and does what its folder says.

In its folder: `NAME.log` is what it did; `NAME.fails` makes it end at once with code 3, for the reason that it holds.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--port", type=int)
    parser.add_argument("--until-stdin-closes", action="store_true", required=True)
    given = parser.parse_args()
    log = given.root / f"{given.name}.log"

    def note(what: str) -> None:
        with log.open("a") as file:
            file.write(f"{time.monotonic():.4f} {what} {os.getpid()}\n")

    note("started")
    if (fails := given.root / f"{given.name}.fails").exists():
        sys.stderr.write(fails.read_text())
        sys.exit(3)
    with socket.socket() as listener:
        if given.port is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", given.port))
            listener.listen()
            host, port = listener.getsockname()
            sys.stdout.write(f"some other line\nready http://{host}:{port}\n")
            sys.stdout.flush()
        end = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: (note("told"), end.set()))

        def watch() -> None:
            sys.stdin.read()
            note("orphaned")
            end.set()

        threading.Thread(target=watch, daemon=True).start()
        while not end.wait(0.05):
            pass
        note("ended")


if __name__ == "__main__":
    main()
