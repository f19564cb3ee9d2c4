"""A dashboard that answers on a port of this machine, and a browser to look at it with."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import httpx
import uvicorn
from lived import NOW
from playwright.sync_api import Browser, Page, sync_playwright

from passerelle.dashboard.app import make_app
from passerelle.project.settings import Project

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: Every page there is, by a short name.
PAGES = {
    "now": "/",
    "timeline": "/timeline",
    "versions": "/versions",
    "trial": "/trial",
    "performance": "/performance",
    "drift": "/drift",
    "alerts": "/alerts",
    "data": "/data",
    "token": "/token",
}


@contextmanager
def showing(project: Project, *, now: datetime, host: str = "127.0.0.1") -> Iterator[str]:
    """The address of a project's dashboard, at a moment; it is told that it listens on ``host``."""
    app = make_app(project, clock=lambda: now, host=host)
    settings = uvicorn.Config(app, port=0, lifespan="off", ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def ask(project: Project, *, now: datetime = NOW, host: str = "127.0.0.1") -> Iterator[httpx.Client]:
    """A client of a project's own dashboard."""
    with showing(project, now=now, host=host) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@contextmanager
def browsing() -> Iterator[Browser]:
    """Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def so(page: Page, question: str, given: object = None) -> None:
    """Wait until the answer to a question about the page is yes."""
    for _ in range(200):
        if page.evaluate(question, given):
            return
        page.wait_for_timeout(50)
    raise AssertionError(question)


def drawn(page: Page) -> None:
    """Wait until every chart of the page is drawn."""
    # No wait_for_function: what is not so at once is asked for by eval, which the pages' policy forbids.
    page.wait_for_selector("[data-figure]:not([data-drawn])", state="detached")
