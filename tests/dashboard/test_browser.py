"""Every page in Chromium, in both schemes, on a laptop and a phone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import lived
import pytest
import tried
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route
from shown import CHROMIUM, PAGES, browsing, drawn, showing, so

from passerelle.project.settings import Project

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: make test-system installs it"),
]

#: Charts that do not cut what is wider than they are; and is nothing wider than its card, but what scrolls in it?
_CUT = (
    "[...document.querySelectorAll('.chart')].filter((one) => getComputedStyle(one).overflowX !== 'hidden').map(String)"
)
_NARROW = """() => ![...document.querySelectorAll('.card')].some((card) =>
  [...card.querySelectorAll('*')].some((one) => !one.closest('.wide *, .hidden')
    && one.getBoundingClientRect().right > card.getBoundingClientRect().right + 1))"""
_HEADINGS = "[...document.querySelectorAll('h1,h2,h3,h4')].map((one) => Number(one.tagName[1]))"
_SCROLL = "[document.documentElement.scrollWidth, window.innerWidth]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


class Watched:
    """A page, what it said on its console, and where it asked."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._ask)

    def _note(self, message: ConsoleMessage) -> None:
        self.said.append(message.text)

    def _ask(self, request: Request) -> None:
        self.asked.append(request.url)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_can_be_used_by_everybody(
    browser: Browser, url: str, scheme: Literal["light", "dark"], width: int
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    watched = Watched(context)
    page = watched.page
    for path in (*PAGES.values(), "/nothing", _quarantine(page, url)):
        page.goto(f"{url}{path}")
        drawn(page)
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert not found, (path, [(one["id"], [node["target"] for node in one["nodes"]]) for one in found])
        wide, screen = page.evaluate(_SCROLL)
        assert wide <= screen, path
        levels = page.evaluate(_HEADINGS)
        assert levels[0] == 1
        assert all(later - before <= 1 for before, later in pairwise(levels)), (path, levels)
    context.close()
    assert [one for one in watched.said if "404" not in one] == []
    assert {one.split("/")[2] for one in watched.asked} == {url.split("/")[2]}


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_a_trial_of_any_standing_can_be_read_by_everybody(
    browser: Browser, trials_of: dict[tried.Standing, str], scheme: Literal["light", "dark"], width: int
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    watched = Watched(context)
    page = watched.page
    for standing, url in trials_of.items():
        page.goto(f"{url}/trial?margin=0.03&mode=split")
        drawn(page)
        found = [one for one in Axe().run(page).response["violations"] if one["impact"] in ("serious", "critical")]
        assert not found, (standing, [(one["id"], [node["target"] for node in one["nodes"]]) for one in found])
        wide, screen = page.evaluate(_SCROLL)
        assert wide <= screen, standing
        so(page, _NARROW)
        # Who writes a margin and presses Enter has its answer at an address that can be sent to somebody.
        page.get_by_label("Margin, a share of the loss").fill("0.5")
        page.keyboard.press("Enter")
        page.wait_for_url("**/trial?margin=0.5&mode=split&share=0.5#next")
    context.close()
    assert watched.said == []
    assert {one.split("/")[2] for one in watched.asked} == {url.split("/")[2] for url in trials_of.values()}


def _quarantine(page: Page, url: str) -> str:
    page.goto(f"{url}/data")
    return page.get_by_role("link", name="the report").first.get_attribute("href") or ""


def test_charts_follow_the_window_and_the_scheme(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    page.goto(f"{url}/trial")
    drawn(page)
    line = ".chart .scatterlayer .js-line"
    colour = page.locator(line).last.evaluate("(one) => one.style.stroke")
    wide = page.locator(".chart .main-svg").first.evaluate("(one) => one.getBoundingClientRect().width")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    so(
        page,
        "([wide, colour, line]) => document.querySelector('.chart .main-svg').getBoundingClientRect().width < wide / 2"
        " && [...document.querySelectorAll(line)].at(-1).style.stroke !== colour",
        [wide, colour, line],
    )
    page.close()


def test_nothing_is_wider_than_its_card_on_a_telephone(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 844})
    for path in ("/", "/trial", "/alerts"):
        page.set_viewport_size({"width": 1280, "height": 844})
        page.goto(f"{url}{path}")
        drawn(page)
        page.set_viewport_size({"width": 390, "height": 844})
        # At once, before the charts have followed: what is wider than its card is cut.
        assert page.evaluate(_CUT) == [], path
        so(page, _NARROW)
    page.close()


def test_the_keyboard_reaches_the_page_and_is_seen(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{url}/timeline")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the page"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.close()


def test_a_page_follows_what_happens_without_a_reload(browser: Browser, bare: Project) -> None:
    with showing(bare, now=lived.NOW) as url:
        page = browser.new_page()
        page.clock.install()
        page.goto(f"{url}/alerts")
        assert (
            page.locator("h1").inner_text() == "No alert has opened, but no version answers yet, so nothing is watched."
        )
        page.evaluate("window.stays = true")
        page.wait_for_load_state("networkidle")
        lived.alert(bare, "quarantine", opened=lived.NOW, closed=None, day=None, sentence="a delivery was put aside")
        page.clock.run_for(11_000)
        page.locator("h1", has_text="1 alert is open").wait_for()
        assert page.evaluate("window.stays") is True
        page.close()


def test_what_was_computed_while_the_page_came_is_news_to_it(browser: Browser, bare: Project) -> None:
    """It happens after the page was read, and before it asks for the first time."""
    with showing(bare, now=lived.NOW) as url:
        page = browser.new_page()

        def late(route: Route) -> None:
            answer = route.fetch()
            lived.alert(bare, "ledger", opened=lived.NOW, closed=None, day=None, sentence="a segment is damaged")
            route.fulfill(response=answer)

        page.route(f"{url}/alerts", late, times=1)
        page.goto(f"{url}/alerts")
        page.locator("main", has_text="a segment is damaged").wait_for()
        page.close()
