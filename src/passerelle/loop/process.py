"""The loop as a process of its own: it looks every ``loop.tick_s`` seconds, by the system's clock, until it is ended.

A training goes on in a thread beside the ticks, so that nothing is left unwatched meanwhile: its heavy parts, the
notebook's kernel and the model's scorer, are processes of their own anyway. Ended during one, the process leaves as by
kill -9, and the training goes on at the next start.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from passerelle.clock import Clock, system_clock
from passerelle.errors import PasserelleError
from passerelle.loop.rollout import PRODUCTION
from passerelle.loop.workflows import Loop, Ticked, open_loop
from passerelle.project.settings import FILE, load_project

#: How long a tick may still take when the process is asked to end.
_LAST_TICK_S = 5.0


def run(root: Path, environment: str, *, ended: threading.Event, clock: Clock, say: Callable[[str], None]) -> None:
    """Tick until ``ended`` is set. ``say`` hears a line of each thing that a tick did.

    A fault that nobody foresaw is shown whole, and the next tick goes on. Raises LeaseError if another process has the
    loop open, SettingsError if the settings cannot be used at the start; later ones that cannot are only told.
    """
    project = load_project(root / FILE)
    with open_loop(project, environment=environment, clock=clock) as loop:
        say(f"looks every {project.loop.tick_s:g} s")
        while not ended.is_set():
            _tick(loop, clock, say)
            try:
                project = load_project(root / FILE)
            except PasserelleError as error:
                say(str(error))
            ended.wait(project.loop.tick_s)


def lines(ticked: Ticked) -> list[str]:
    """What a tick did, for a person; nothing if there is nothing to say."""
    said = [*ticked.deliveries, *(f"alert {one}" for one in ticked.alerts), *ticked.problems]
    if ticked.filled:
        said.append(f"{ticked.filled:,} shadow scores were filled in")
    if ticked.verdict is not None:
        said.append(f"trial {ticked.trial}: {ticked.verdict}")
    if ticked.decision.retrain:
        said.append(f"retrain: {ticked.decision.reason}")
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m passerelle.loop.process --root R``; ends on SIGTERM and SIGINT, or when its standard input closes."""
    parser = argparse.ArgumentParser(prog="passerelle.loop.process")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--environment", default=PRODUCTION)
    parser.add_argument("--until-stdin-closes", action="store_true")
    given = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end(ended))
    if given.until_stdin_closes:
        threading.Thread(target=_await_end_of_input, args=(ended,), daemon=True).start()
    code = 0
    try:
        run(given.root.resolve(), given.environment, ended=ended, clock=system_clock, say=_say)
    except PasserelleError as error:
        sys.stderr.write(f"loop: {error}\n")
        code = error.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # not sys.exit, which would wait for a training's thread


def _tick(loop: Loop, clock: Clock, say: Callable[[str], None]) -> None:
    try:
        for line in lines(loop.tick(clock(), wait=False)):
            say(line)
    except Exception:  # noqa: BLE001  (whatever it was, what can be done is done at the next tick)
        traceback.print_exc()


def _say(line: str) -> None:
    sys.stdout.write(f"loop: {line}\n")
    sys.stdout.flush()


def _await_end_of_input(ended: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    _end(ended)


def _end(ended: threading.Event) -> None:
    """End after the tick that is going on; a long one is cut, and goes on at the next start."""
    ended.set()
    timer = threading.Timer(_LAST_TICK_S, os._exit, (0,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main()
