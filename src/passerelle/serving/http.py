"""Http: door 1. Requests become events, answers and errors become JSON; the only place that knows status codes.

A table of routes, and one ASGI application that looks requests up in it: no middleware. A route cannot be made without
saying the scope that it needs.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import msgspec

from passerelle.errors import LedgerError, PasserelleError, ServingError
from passerelle.schema import RowsError
from passerelle.serving.batching import OverloadedError
from passerelle.serving.door import Door, RefusedError, UnknownCallerError, WrongHostError
from passerelle.serving.events import Answer, BodyError, TooManyRowsError, read_events, read_truths
from passerelle.serving.measures import CONTENT_TYPE
from passerelle.serving.openapi import describe
from passerelle.serving.service import LedgerOffError, NotReadyError, Service
from passerelle.serving.tokens import Needed

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: A body that has not arrived by then is given up.
BODY_DEADLINE_S = 10.0

_JSON = "application/json"
_PAGE = Path(__file__).with_name("page.html").read_bytes()
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_log = logging.getLogger(__name__)


class Reply(msgspec.Struct, frozen=True):
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one request may ask for."""

    max_rows: int = 1000
    max_body_bytes: int = 2_000_000


class Request(msgspec.Struct, frozen=True):
    """What a route is asked."""

    body: bytes
    headers: dict[bytes, bytes]
    #: What stands in the path where the route has a name in braces.
    names: dict[str, str]

    def header(self, name: str) -> str | None:
        """A header's text, by its name in lower case; None if it was not sent."""
        return _text(self.headers.get(name.encode()))

    @property
    def kind(self) -> str:
        """The body's type: ``application/json``; "" if none is said."""
        return _kind(self.headers)


class Route(msgspec.Struct, frozen=True):
    """One path and method. ``needs`` has no default: what is open to all has to say so."""

    method: str
    #: ``/ready``; a part in braces stands for any text without a slash: ``/v2/models/{model}``.
    path: str
    needs: Needed
    reply: Callable[[Request], Awaitable[Reply]]
    #: The types that a body may be of; "" where none needs to be said.
    takes: tuple[str, ...] = (_JSON,)

    def __post_init__(self) -> None:
        """Refuse a scope that does not exist."""
        if self.needs not in get_args(Needed):
            raise ValueError(f"{self.method} {self.path} needs {self.needs!r}, which is not one of {get_args(Needed)}")


class UnknownModelError(ServingError):
    """There is no such model here: ask /v1/models which there is."""


class _RequestError(PasserelleError):
    """A request that HTTP itself refuses."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


_STATUS: dict[type[PasserelleError], int] = {
    BodyError: 400,
    UnknownCallerError: 401,
    UnknownModelError: 404,
    RefusedError: 403,
    LedgerOffError: 409,
    TooManyRowsError: 413,
    WrongHostError: 421,
    RowsError: 422,
    OverloadedError: 503,
    NotReadyError: 503,
    LedgerError: 503,
}
"""The status code of each error that a request can meet."""


class Http:
    """The ASGI application of one service."""

    def __init__(self, service: Service, door: Door, *, limits: Limits) -> None:
        self._service = service
        self._door = door
        self._limits = limits
        self._table: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        self.add(
            [
                Route("POST", "/predict", "predict", self._predict),
                Route("POST", "/outcomes", "label", self._outcomes),
                Route("GET", "/live", "nothing", self._live),
                Route("GET", "/ready", "read", self._ready),
                Route("GET", "/metrics", "read", self._metrics),
                Route("GET", "/openapi.json", "read", self._openapi),
                Route("GET", "/", "nothing", self._page),
                Route("GET", "/docs", "nothing", self._page),
            ]
        )

    @property
    def routes(self) -> list[Route]:
        """All routes, for tests and for the page."""
        return [route for methods in self._table.values() for route in methods.values()]

    def add(self, routes: Iterable[Route], *, instead: bool = False) -> None:
        """Add routes; ``instead``: of those that are there. Raises ValueError if one is taken."""
        for route in routes:
            if "{" in route.path and route.path not in self._table:
                parts = re.split(r"\{(\w+)\}", route.path)
                named = [f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(parts)]
                self._patterns.append((re.compile("".join(named)), route.path))
            methods = self._table.setdefault(route.path, {})
            if route.method in methods and not instead:
                raise ValueError(f"{route.method} {route.path} is there already")
            methods[route.method] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every failure becomes a reply."""
        start = perf_counter()
        place = "unknown"
        try:
            headers = dict(scope["headers"])
            route, names = self._route(scope)
            place = route.path
            self._door.check(
                route.needs,
                authorization=_text(headers.get(b"authorization")),
                host=_text(headers.get(b"host")),
            )
            body = await self._body(route, headers, receive) if route.method == "POST" else b""
            reply = await route.reply(Request(body, headers, names))
        except _RequestError as error:
            reply = _failure(error.status, error, *error.headers)
        except PasserelleError as error:
            reply = refusal(error)
        except Exception:  # noqa: BLE001  (a bug of ours costs one request, not the endpoint)
            _log.exception("a request to %s failed", place)
            reply = _failure(500, "the endpoint failed on this request: its log says why.")
        measures = self._service.measures
        measures.requests.labels(place, str(reply.status)).inc()
        measures.seconds.labels(place).observe(perf_counter() - start)
        await _send(reply, send)

    def _route(self, scope: Scope) -> tuple[Route, dict[str, str]]:
        methods, names = self._table.get(scope["path"]), {}
        if methods is None or "{" in scope["path"]:
            for pattern, path in self._patterns:
                if (found := pattern.fullmatch(scope["path"])) is not None:
                    methods, names = self._table[path], found.groupdict()
                    break
            else:
                paths = ", ".join(sorted(self._table))
                raise _RequestError(404, f"there is no {scope['path']}; the paths are {paths}.")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in methods:
            allowed = ", ".join(sorted(methods))
            raise _RequestError(405, f"{scope['path']} takes {allowed}, not {method}.", ("allow", allowed))
        return methods[method], names

    async def _body(self, route: Route, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        if packed := headers.get(b"content-encoding"):
            said = f"the body is compressed ({packed.decode('latin-1')}): send it not compressed, without that header."
            raise _RequestError(415, said)
        if _kind(headers) not in route.takes:
            sent, form = _kind(headers) or "nothing", "JSON or CSV" if "text/csv" in route.takes else "JSON"
            raise _RequestError(
                415,
                f"the body is sent as {sent}: send {form}, with Content-Type: {_named(route.takes)}.",
            )
        most = self._limits.max_body_bytes
        too_large = _RequestError(
            413,
            f"the body is larger than {most} bytes, the most that one request may hold: send several requests.",
            ("connection", "close"),
        )
        if (length := headers.get(b"content-length", b"0")).isdigit() and int(length) > most:
            raise too_large
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _RequestError(400, "the connection was closed before the body was complete.")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_large
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise _RequestError(
                408, f"the body did not arrive within {BODY_DEADLINE_S:g} s: send it again.", ("connection", "close")
            ) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _predict(self, request: Request) -> Reply:
        events, many = read_events(request.body, max_rows=self._limits.max_rows)
        answers = await self._service.predict(events)
        return Reply(status_of(answers), msgspec.json.encode({"predictions": answers} if many else answers[0]))

    async def _outcomes(self, request: Request) -> Reply:
        recorded = await self._service.record(read_truths(request.body, max_rows=self._limits.max_rows))
        return Reply(200, msgspec.json.encode(recorded))

    async def _live(self, _: Request) -> Reply:
        return Reply(200, b'{"live":true}')

    async def _ready(self, _: Request) -> Reply:
        state = self._service.state()
        return Reply(200 if state.ready else 503, msgspec.json.encode(state))

    async def _metrics(self, _: Request) -> Reply:
        return Reply(200, self._service.measures.exposition(), CONTENT_TYPE)

    async def _openapi(self, _: Request) -> Reply:
        return Reply(200, msgspec.json.encode(describe(self._service.active, self._limits.max_rows)))

    async def _page(self, _: Request) -> Reply:
        return Reply(200, _PAGE, "text/html; charset=utf-8", (("content-security-policy", _PAGE_POLICY),))


def status_of(answers: list[Answer]) -> int:
    """200 if any event was answered; else 504 if all timed out, 500."""
    if any(answer.error is msgspec.UNSET for answer in answers):
        return 200
    return 504 if all(answer.timed_out is True for answer in answers) else 500


def refusal(error: PasserelleError) -> Reply:
    """An error as a reply, with its status code."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if isinstance(error, RowsError):
        return Reply(status, msgspec.json.encode({"error": str(error), "issues": error.issues}))
    headers = {401: ("www-authenticate", "Bearer"), 503: ("retry-after", "1")}
    return _failure(status, error, *([headers[status]] if status in headers else []))


def _failure(status: int, error: object, *headers: tuple[str, str]) -> Reply:
    return Reply(status, msgspec.json.encode({"error": str(error)}), _JSON, headers)


def _kind(headers: dict[bytes, bytes]) -> str:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def _named(takes: tuple[str, ...]) -> str:
    return " or ".join(kind for kind in takes if kind)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


async def _send(reply: Reply, send: Send) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        *((name.encode(), value.encode()) for name, value in reply.headers),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
