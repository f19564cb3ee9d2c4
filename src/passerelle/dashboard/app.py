"""The dashboard: what the project's state says, as pages for people and as JSON for programs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from passerelle.clock import Clock, system_clock
from passerelle.dashboard import actions, alert_actions, charts, drift_charts, drifted, performance_charts, performed
from passerelle.dashboard.beside import Computed
from passerelle.dashboard.comparing import versions_page
from passerelle.dashboard.drawing import Figure
from passerelle.dashboard.exporting import as_csv
from passerelle.dashboard.guard import COOKIE, COOKIE_S, HEADERS, Guard, NotAdminError
from passerelle.dashboard.later import PAGE_S, PROGRAM_S
from passerelle.dashboard.lists import (
    MOST,
    alerts_page,
    alerts_table,
    data_page,
    deliveries_table,
    losses,
    quarantine_page,
    timeline_page,
    timeline_table,
)
from passerelle.dashboard.pages import path_page, running
from passerelle.dashboard.reading import Reader, Seen, points
from passerelle.dashboard.rendering import as_json, render
from passerelle.dashboard.statics import NoSuchPageError, plotly_version, static
from passerelle.dashboard.trying import TrialPage, stages, table, trial_page
from passerelle.errors import PasserelleError
from passerelle.loop.rollout import PRODUCTION
from passerelle.monitoring import gauges
from passerelle.project.settings import Project
from passerelle.serving.door import RefusedError, UnknownCallerError, WrongHostError
from passerelle.state.database import open_state
from passerelle.trial.verdict import Record

_FORM_BYTES = 8192

_Page = Callable[[Request], Awaitable[Response]]


def make_app(
    project: Project, *, environment: str = PRODUCTION, clock: Clock = system_clock, host: str = "127.0.0.1"
) -> Starlette:
    """The dashboard of one environment of a project, listening on ``host``.

    Raises ServingError if other machines can reach ``host`` and the project has no token.
    """
    shown = _Dashboard(project, environment, clock=clock, guard=Guard(project.state, host=host))
    shown.warm_up()
    pages: dict[str, Callable[[Request], Response]] = {
        "/": shown.path,
        "/timeline": shown.timeline,
        "/versions": shown.versions,
        "/trial": shown.trial,
        "/trials/{id}": shown.trial,
        "/performance": shown.performance,
        "/drift": shown.drift,
        "/alerts": shown.alerts,
        "/data": shown.data,
        "/data/quarantine/{id}": shown.quarantine,
        "/fingerprint": shown.fingerprint,
        "/metrics": shown.metrics,
    }
    routes = [Route(path, shown.reading(page), methods=["GET"]) for path, page in pages.items()]
    routes += [
        Route("/token", shown.token_form, methods=["GET"]),
        Route("/token", shown.give_token, methods=["POST"]),
        Route("/leave", shown.leave, methods=["POST"]),
        Route("/actions/{name}", shown.act, methods=["POST"]),
        Route("/static/{name}", static, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Headers), Middleware(GZipMiddleware, minimum_size=1000)],
        exception_handlers={404: shown.missing, 405: shown.missing, PasserelleError: shown.refused, Exception: _broken},
    )


class _Dashboard:
    """The routes. Each page is read, made of pure values, and rendered; none keeps anything between requests."""

    def __init__(self, project: Project, environment: str, *, clock: Clock, guard: Guard) -> None:
        self._project = project
        self._environment = environment
        self._clock = clock
        self._guard = guard
        self._reader = Reader(project, environment)
        self._computed = Computed(project, environment, self._reader)

    def warm_up(self) -> None:
        """Read once: the libraries behind the first page take seconds to begin. What is wrong, that page will say."""
        with contextlib.suppress(PasserelleError):
            seen = self._reader.read()
            for record in seen.trials[-1:]:
                self._reader.said(record, seen.blocks[record.plan.id])

    def reading(self, page: Callable[[Request], Response]) -> _Page:
        """A route that only those may reach who may read."""

        async def reached(request: Request) -> Response:
            self._guard.check_read(request.headers, request.cookies.get(COOKIE))
            request.state.mark = self._mark()  # before the page is read: what comes while it is made is news to it
            return await run_in_threadpool(page, request)

        return reached

    def path(self, request: Request) -> Response:
        """The path now."""
        seen, now = self._reader.read(), self._clock()
        record = running(seen)
        drawn: dict[str, Any] = {}
        if record is not None and seen.blocks[record.plan.id]:
            tried = self._trial(seen, record, now=now)
            drawn["estimate"] = charts.estimate_chart(record.plan, tried.points, record.verdict)
        if days := losses(seen)[-120:]:
            drawn["loss"] = charts.loss_chart(days)
        return self._answer(request, "path.html", path_page(seen, now=now), now=now, drawn=drawn)

    def timeline(self, request: Request) -> Response:
        """What happened."""
        skip = request.query_params.get("skip", "")
        page = timeline_page(
            self._reader.read(),
            kind=request.query_params.get("kind"),
            skip=int(skip) if skip.isascii() and skip.isdigit() and len(skip) < 8 else 0,  # noqa: PLR2004  (no timeline is longer)
            now=self._clock(),
        )
        return self._answer(request, "timeline.html", page, now=self._clock(), table=timeline_table(page))

    def versions(self, request: Request) -> Response:
        """Versions side by side."""
        now = self._clock()
        return self._answer(request, "versions.html", versions_page(self._reader.read(), now=now), now=now)

    def trial(self, request: Request) -> Response:
        """One trial: the one that is named, else the newest."""
        seen, now = self._reader.read(), self._clock()
        named = request.path_params.get("id")
        record = next((one for one in reversed(seen.trials) if named in (None, one.plan.id)), None)
        if named is not None and record is None:
            raise NoSuchPageError(f"There is no trial {named!r}.")
        found = self._computed.trial(seen, record, request.query_params, now=now, wait_s=_wait_s(request))
        page = msgspec.structs.replace(self._trial(seen, record, now=now), beside=found)
        drawn = charts.trial_charts(page, stages(seen, record) if record else ())
        return self._answer(request, "trial.html", page, now=now, drawn=drawn, table=table(page))

    def performance(self, request: Request) -> Response:
        """How good the answers were, and what is expected of those whose outcome is not due."""
        seen, now = self._reader.read(), self._clock()
        calibrated, coming = self._computed.measured(seen, now, wait_s=_wait_s(request))
        span = _span(request.query_params.get("days"), performed.SPANS)
        page = performed.performance_page(seen, span=span, calibrated=calibrated, coming=coming, now=now)
        drawn = {"loss": performance_charts.tolerance_chart(page)} if page.days else {}
        if any(one.cost is not None for one in page.days):
            drawn["cost"] = performance_charts.cost_chart(page)
        if page.calibration is not None:
            drawn["calibration"] = performance_charts.calibration_chart(page.calibration)
        return self._answer(request, "performance.html", page, now=now, drawn=drawn, table=performed.table(page))

    def drift(self, request: Request) -> Response:
        """How far inputs and scores have moved, field by field."""
        seen, now = self._reader.read(), self._clock()
        asked = request.query_params
        chosen = drifted.choose(seen, asked=_day(asked.get("day")), fields=asked.getlist("field"))
        counted = self._reader.counts(chosen.start) if chosen else None
        page = drifted.drift_page(
            seen,
            span=_span(asked.get("days"), drifted.SPANS),
            chosen=chosen,
            counts=counted[1] if counted else None,
            reference=self._reader.reference(counted[0]) if counted else None,
            now=now,
        )
        drawn = {f"histogram {n}": drift_charts.histogram_chart(one) for n, one in enumerate(page.histograms)}
        if any(value is not None for field in page.fields for value in field.evidence):
            drawn["heat"] = drift_charts.heat_chart(page)
        if any(one.mean is not None for rule in page.rules for one in rule.days):
            drawn["mean"] = drift_charts.mean_chart(page.rules)
        return self._answer(request, "drift.html", page, now=now, drawn=drawn, table=drifted.table(page))

    def alerts(self, request: Request) -> Response:
        """What is wrong, and was."""
        now = self._clock()
        page = alerts_page(self._reader.read(), now=now)
        drawn = {"loss": charts.loss_chart(page.losses)} if page.losses else {}
        return self._answer(request, "alerts.html", page, now=now, drawn=drawn, table=alerts_table(page))

    def data(self, request: Request) -> Response:
        """What was delivered."""
        now = self._clock()
        page = data_page(self._reader.read(), now=now)
        return self._answer(request, "data.html", page, now=now, table=deliveries_table(page))

    def quarantine(self, request: Request) -> Response:
        """Why a delivery was put aside."""
        report = self._reader.report(request.path_params["id"])
        if report is None:
            raise NoSuchPageError("There is no such report: the delivery was accepted since, or never came.")
        return self._answer(request, "quarantine.html", quarantine_page(report), now=self._clock())

    def metrics(self, _request: Request) -> Response:
        """What the loop has measured, for Prometheus."""
        text = gauges.exposition(open_state(self._project.state), self._project, self._environment)
        return Response(text, headers={"Content-Type": gauges.CONTENT_TYPE, "Cache-Control": "no-cache"})

    def fingerprint(self, request: Request) -> Response:
        """What a page asks for now and then: has anything changed? 304 if not."""
        mark = request.state.mark
        headers = {"ETag": mark, "Cache-Control": "no-cache"}
        same = request.headers.get("if-none-match") == mark
        return Response(status_code=HTTPStatus.NOT_MODIFIED if same else HTTPStatus.NO_CONTENT, headers=headers)

    def _mark(self) -> str:
        """What changes with anything that a page shows."""
        said = f"{self._reader.fingerprint()}-{self._computed.later.finished}"
        return f'"{hashlib.sha256(said.encode()).hexdigest()[:24]}"'

    async def token_form(self, request: Request) -> Response:
        """Where a token is given."""
        return self._html(request, "token.html", now=self._clock(), problem=None)

    async def give_token(self, request: Request) -> Response:
        """Begin a session with a token, if that may read or act."""
        self._guard.check_origin(request.headers)
        secret = (await _form(request)).get("token", "").strip()
        if not (self._guard.may(secret, "read") or self._guard.may(secret, "admin")):
            problem = "This token may not read here: it is unknown, expired, or for something else."
            return self._html(request, "token.html", now=self._clock(), problem=problem, status=403)
        answer = RedirectResponse("/", status_code=HTTPStatus.SEE_OTHER)
        session = self._guard.begin(secret)
        answer.set_cookie(
            COOKIE, session, max_age=COOKIE_S, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return answer

    async def leave(self, request: Request) -> Response:
        """Forget the token."""
        self._guard.check_origin(request.headers)
        self._guard.end(request.cookies.get(COOKIE))
        answer = RedirectResponse("/", status_code=HTTPStatus.SEE_OTHER)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def act(self, request: Request) -> Response:
        """Do what a person decided."""
        by = self._guard.check_act(request.headers, request.cookies.get(COOKIE))
        name = request.path_params["name"]
        if name not in actions.NAMES:
            raise NoSuchPageError(f"There is no action {name!r}.")
        form = await _form(request)
        await run_in_threadpool(actions.act, name, self._project, self._environment, form, by=by, now=self._clock())
        shown = "/alerts" if name in alert_actions.ACTIONS else "/"
        return RedirectResponse(shown, status_code=HTTPStatus.SEE_OTHER)

    async def missing(self, request: Request, _error: Exception) -> Response:
        """No page of this address."""
        return await self.refused(request, NoSuchPageError())

    async def refused(self, request: Request, error: Exception) -> Response:
        """An error that was foreseen, in its own words, and nothing else."""
        status = _status(error)
        if _wants_json(request):
            return Response(msgspec.json.encode({"error": str(error)}), status, media_type="application/json")
        if isinstance(error, UnknownCallerError | RefusedError) and request.method == "GET":
            return self._html(request, "token.html", now=self._clock(), problem=None, status=status)
        return self._html(request, "problem.html", now=self._clock(), problem=str(error), status=status)

    def _trial(self, seen: Seen, record: Record | None, *, now: datetime) -> TrialPage:
        blocks = seen.blocks[record.plan.id] if record else ()
        said = self._reader.said(record, blocks) if record else []
        last = record.verdict if record and record.verdict else said[-1] if said else None
        return trial_page(seen, record, last, points(blocks, said), now=now)

    def _answer(
        self,
        request: Request,
        template: str,
        page: msgspec.Struct,
        *,
        now: datetime,
        drawn: dict[str, Figure] | None = None,
        table: Sequence[Mapping[str, Any]] | None = None,
    ) -> Response:
        if table is not None and request.query_params.get("format") == "csv":
            name = request.url.path.strip("/").replace("/", "-") or "now"
            headers = {"Cache-Control": "no-cache", "Content-Disposition": f'attachment; filename="{name}.csv"'}
            return Response(as_csv(table), media_type="text/csv", headers=headers)
        if _wants_json(request):
            return Response(as_json(page), media_type="application/json", headers={"Cache-Control": "no-cache"})
        return self._html(request, template, now=now, page=page, drawn=drawn or {}, csv=table is not None)

    def _html(self, request: Request, template: str, *, now: datetime, status: int = 200, **values: Any) -> Response:
        secret = self._guard.secret_of(request.cookies.get(COOKIE))
        text = render(
            template,
            **({"drawn": {}, "csv": False} | values),
            project=self._project.name,
            environment=self._environment,
            now=now,
            here=request.url.path,
            mark=getattr(request.state, "mark", ""),
            admin=self._guard.may(secret, "admin"),
            known=secret is not None,
            most=MOST,
            hours=alert_actions.HOURS,
            plotly=plotly_version(),
        )
        return Response(text, status, media_type="text/html", headers={"Cache-Control": "private, no-cache"})


class _Headers:
    """Adds to every answer what keeps a page to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, with_headers)


async def _broken(request: Request, _error: Exception) -> Response:
    """An error that nobody foresaw: it is answered outside of _Headers, and its traceback goes to the log."""
    told = "Something went wrong that nobody foresaw: the dashboard's log says what."
    kind = "application/json" if _wants_json(request) else "text/plain"
    body = msgspec.json.encode({"error": told}) if kind == "application/json" else told.encode()
    return Response(body, HTTPStatus.INTERNAL_SERVER_ERROR, media_type=kind, headers=HEADERS)


def _wants_json(request: Request) -> bool:
    asked = request.query_params.get("format")
    accepts = request.headers.get("accept", "")
    return asked == "json" or (asked is None and "application/json" in accepts and "text/html" not in accepts)


def _status(error: Exception) -> int:
    if isinstance(error, NoSuchPageError):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, UnknownCallerError):
        return HTTPStatus.UNAUTHORIZED
    if isinstance(error, RefusedError | NotAdminError | WrongHostError):
        return HTTPStatus.FORBIDDEN
    return HTTPStatus.CONFLICT


def _wait_s(request: Request) -> float:
    """A page shows what is there; a program waits for all of it."""
    return PROGRAM_S if _wants_json(request) else PAGE_S


def _day(text: str | None) -> date | None:
    """A day that was asked for; what is none is not asked for."""
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def _span(text: str | None, spans: Sequence[int]) -> int:
    """So many days as were asked for; the first of those that may be asked for, if others were."""
    return next((one for one in spans if str(one) == text), spans[0])


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form. Raises PasserelleError for a large one."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            raise PasserelleError(f"This form is larger than {_FORM_BYTES} bytes: nothing was done.")
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
