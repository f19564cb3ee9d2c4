"""Injectors: requests sent when they are due, whatever has become of those before: an open loop over HTTP.

A loop that waits for each answer before it asks again stops asking while the endpoint stalls, and its figures hide the
stall (coordinated omission). Here a request's latency runs from the moment at which it was *due*, on a schedule that
was made beforehand; a request that finds every connection taken waits in a queue, and its clock runs.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import signal
import ssl
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from passerelle.errors import PasserelleError
from passerelle.load.connection import Connection, Sent
from passerelle.load.plan import Plan
from passerelle.load.report import Injected, can_judge, doubts, quantiles
from passerelle.load.target import Target

#: One process and one connection to a socket: ``select`` takes no more than about a thousand.
MOST_CONNECTIONS = 500
#: A request is given up so long after it was due.
TIMEOUT_S = 10.0
_SWEEP_S = 0.02
_LEAD_S = 0.05
#: After Ctrl-C, what is on its way has so long to be answered.
_GRACE_S = 1.0
#: Requests that are overdue go out at once, but answers are read after so many of them.
_BURST = 16
_SAID = 200
_OK = 200


class NobodyThereError(PasserelleError):
    """Nothing answers at this address: start the endpoint with passerelle serve, or name another with --to."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far an injection is."""

    due: int
    sent: int
    answered: int
    failed: int
    #: Requests that wait for a connection.
    waiting: int
    seconds: float


def inject(
    target: Target,
    plan: Plan,
    *,
    token: str | None = None,
    connections: int = 64,
    timeout_s: float = TIMEOUT_S,
    on_progress: Callable[[Progress], None] | None = None,
) -> Injected:
    """Send a plan's requests, each when it is due, and measure, until the last answer or Ctrl-C.

    A request is given up ``timeout_s`` after it was due. Raises NobodyThereError if no connection can be made at the
    beginning.
    """
    connections = max(1, min(connections, MOST_CONNECTIONS))
    # select() takes a timeout in microseconds; epoll and uvloop round it to milliseconds, which would be our lag.
    with (
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner,
        _undisturbed(),
    ):
        loop = runner.get_loop()
        injector = _Injector(target, token=token, connections=connections, timeout_s=timeout_s)
        with _on_interrupt(lambda: loop.call_soon_threadsafe(injector.stop)):
            return runner.run(injector.run(plan, on_progress))


class _Injector:
    """The state of one injection; all of it is touched by one loop only."""

    def __init__(self, target: Target, *, token: str | None, connections: int, timeout_s: float) -> None:
        self._target = target
        self._tls = ssl.create_default_context() if target.tls else None
        lines = [f"POST {target.path} HTTP/1.1", f"Host: {target.address}", "Content-Type: application/json"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")
        self._bound = connections
        self._timeout_s = timeout_s
        self._idle: deque[Connection] = deque()
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()
        #: Requests that wait for a connection; those that were given up stay until they are reached.
        self._waiting: deque[Sent] = deque()
        #: All that were sent or wait, by due moment, to find the overdue ones.
        self._pending: deque[Sent] = deque()
        self._unanswered = 0
        self._drained = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._stopped = self._ended = False
        self._sent = self._events = self._failed_events = self._late = 0
        self._answered = 0
        self._longest_wait_s = 0.0
        self._last_answer = 0.0
        self._errors: Counter[str] = Counter()
        self._said: dict[str, str] = {}
        self._latencies, self._services, self._lags = array("d"), array("d"), array("d")

    def stop(self) -> None:
        """Send no more, and wait only for a moment for what is on its way."""
        self._stopped = True
        self._waiting.clear()
        if self._sender is not None:
            self._sender.cancel()
        asyncio.get_running_loop().call_later(_GRACE_S, self._end)

    def _end(self) -> None:
        self._ended = True
        self._drained.set()

    async def run(self, plan: Plan, on_progress: Callable[[Progress], None] | None) -> Injected:
        """Send, drain, report."""
        loop = asyncio.get_running_loop()
        await self._connect_all()
        start = loop.time() + _LEAD_S
        busy = time.process_time()
        self._sender = asyncio.create_task(self._send_all(start, plan))
        sweeper = asyncio.create_task(self._sweep())
        drawer = asyncio.create_task(self._draw(start, len(plan.due), on_progress))
        try:
            await asyncio.wait([self._sender])
            if not self._sender.cancelled():
                self._sender.result()
            while self._unanswered and not self._ended:
                self._drained.clear()
                await self._drained.wait()
            end = loop.time()
            self._give_up(end, "not waited for: ended by hand", everything=True)
        finally:
            for task in (sweeper, drawer, *self._opening):
                task.cancel()
            self._waiting.clear()
            for connection in self._idle:
                connection.give_up()
            await asyncio.sleep(0)  # so that the sockets are closed
        if on_progress is not None:
            on_progress(self._progress(start, len(plan.due)))
        took = max(self._last_answer - start, 0.0 if self._stopped else plan.span_s, 1e-9)
        shares = (time.process_time() - busy) / max(end - start, 1e-9)
        latency, lag = quantiles(self._latencies), quantiles(self._lags)
        judged = can_judge(sent=self._sent, answered=self._answered, seconds=took)
        return Injected(
            to=self._target.url,
            due=len(plan.due),
            sent=self._sent,
            answered=self._answered,
            events=self._events,
            failed_events=self._failed_events,
            events_a_request=plan.events_a_request,
            errors=dict(self._errors),
            said=self._said,
            asked_per_s=len(plan.due) / plan.span_s if plan.span_s else None,
            answered_per_s=self._answered / took,
            seconds=took,
            latency_ms=latency,
            service_ms=quantiles(self._services),
            late=self._late,
            longest_wait_ms=self._longest_wait_s * 1000,
            connections=self._bound,
            lag_ms=lag,
            busy=shares,
            passes=plan.passes,
            cut_short=self._stopped,
            doubts=doubts(lag_ms=lag, latency_ms=latency, busy=shares) if judged else (),
            judged=judged,
        )

    async def _send_all(self, start: float, plan: Plan) -> None:
        loop = asyncio.get_running_loop()
        if self._stopped:
            return
        for number, (offset, request) in enumerate(zip(plan.due, plan.requests, strict=False)):
            moment = start + offset
            if (ahead := moment - loop.time()) > 0:
                await asyncio.sleep(ahead)
            elif number % _BURST == 0:
                await asyncio.sleep(0)
            now = loop.time()
            self._lags.append(max(0.0, now - moment))
            self._attend(Sent(moment, request.events, request.body), now)

    def _attend(self, asked: Sent, now: float) -> None:
        """A request is due: put it on a free connection, or let it wait for one."""
        self._unanswered += 1
        self._pending.append(asked)
        if self._idle:
            self._put(self._idle.popleft(), asked, now)
            return
        self._waiting.append(asked)
        if self._open + len(self._opening) < self._bound:
            self._connect()  # the endpoint closed one that had nothing to do
        else:
            self._late += 1

    def _put(self, connection: Connection, asked: Sent, now: float) -> None:
        self._sent += 1
        connection.send(asked, now)

    def _free(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting:
            asked = self._waiting.popleft()
            if not asked.done:
                self._longest_wait_s = max(self._longest_wait_s, now - asked.due)
                self._put(connection, asked, now)
                return
        self._idle.append(connection)

    def _answer(self, asked: Sent, status: int, body: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._last_answer = now
        if status == _OK:
            self._answered += 1
            self._events += asked.events
            if b'"error"' in body:
                self._failed_events += _failures(body)
            self._measure(asked, now)
        else:
            self._err(f"status {status}", body[:_SAID].decode(errors="replace"))
        self._finish(asked)

    def _measure(self, asked: Sent, now: float) -> None:
        self._latencies.append(now - asked.due)
        if asked.sent is not None:
            self._services.append(now - asked.sent)

    def _finish(self, asked: Sent) -> None:
        asked.done = True
        asked.connection = None
        self._unanswered -= 1
        if not self._unanswered:
            self._drained.set()

    def _err(self, kind: str, said: str = "") -> None:
        self._errors[kind] += 1
        self._said.setdefault(kind, said)

    def _give_up(self, now: float, kind: str, *, everything: bool = False) -> None:
        """Give up the requests that have waited for too long; their latency is at least what they have waited."""
        while self._pending:
            asked = self._pending[0]
            if not asked.done:
                if not everything and now < asked.due + self._timeout_s:
                    return
                connection = asked.connection
                self._err(kind if asked.sent is not None else f"{kind}, never sent")
                self._measure(asked, now)
                self._finish(asked)
                if connection is not None:
                    connection.give_up()
            self._pending.popleft()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._give_up(asyncio.get_running_loop().time(), f"timed out after {self._timeout_s:g} s")

    async def _connect_all(self) -> None:
        """Open the connections beforehand: nobody's latency holds their making, and every worker gets its share."""
        for _ in range(self._bound):
            if self._stopped:
                return
            try:
                await self._connected()
            except OSError as error:
                if not self._open:
                    raise NobodyThereError(
                        f"nothing answers at {self._target.url} ({error}): start the endpoint with passerelle serve, "
                        "or name another with --to."
                    ) from error
                return

    async def _connected(self) -> None:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._head, on_answer=self._answer, on_free=self._free, on_lost=self._lost),
            self._target.host,
            self._target.port,
            ssl=self._tls,
        )
        self._open += 1
        self._free(connection)

    def _connect(self) -> None:
        """Open one more, for a request that waits."""
        task = asyncio.create_task(self._connect_for_one())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect_for_one(self) -> None:
        try:
            await self._connected()
        except OSError as error:
            while self._waiting:
                asked = self._waiting.popleft()
                if not asked.done:
                    self._err("no connection", str(error)[:_SAID])
                    self._finish(asked)
                    break
            if self._waiting:
                self._connect()

    def _lost(self, connection: Connection, asked: Sent | None, reason: str) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if asked is not None:
            self._err(reason)
            self._finish(asked)
        if self._waiting:
            self._connect()

    async def _draw(self, start: float, due: int, on_progress: Callable[[Progress], None] | None) -> None:
        while on_progress is not None:
            on_progress(self._progress(start, due))
            await asyncio.sleep(0.5)

    def _progress(self, start: float, due: int) -> Progress:
        return Progress(
            due=due,
            sent=self._sent,
            answered=self._answered,
            failed=sum(self._errors.values()),
            waiting=len(self._waiting),
            seconds=max(0.0, asyncio.get_running_loop().time() - start),
        )


def _failures(body: bytes) -> int:
    """The events in an answer that got an error instead of a prediction."""
    answer = msgspec.json.decode(body)
    found = answer.get("predictions", [answer]) if isinstance(answer, dict) else []
    return sum(isinstance(one, dict) and "error" in one for one in found)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No pauses for collecting garbage: a request makes no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _on_interrupt(act: Callable[[], object]) -> Iterator[None]:
    """The first Ctrl-C acts; the second is Python's own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        act()

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
