"""What the page of a trial says of each standing, of its arms, of its signature, and of a trial that is thought of."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import msgspec
import pytest
import tried
from plotly import graph_objects
from shown import ask
from test_charts import coloured, point

from passerelle.dashboard.arm_charts import delay_chart
from passerelle.dashboard.asking import question_of
from passerelle.dashboard.charts import estimate_chart
from passerelle.dashboard.drawing import place_of
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.funnel import Funnel, FunnelArm

Projects = dict[tried.Standing, Project]
PATH = "/trials/production-2-2"


def told(text: str) -> str:
    """The words of a page."""
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", text)).replace("\N{NO-BREAK SPACE}", " ").split())


def test_one_that_broke_says_why_by_how_much_and_on_which_answers(tried_projects: Projects) -> None:
    with ask(tried_projects["BROKEN"]) as client:
        page = client.get(PATH, params={"format": "json"}).json()
        text = client.get(PATH).text
    broken = page["record"]["verdict"]["breaker"]
    answers = page["beside"]["answers"]
    assert len(answers) == broken["answers"] == 100
    assert sum(answers) == broken["failed"] > 20
    assert answers[: broken["failed"]] == [True] * broken["failed"]  # the newest
    assert f"It failed on {broken['failed']}.0% of its last 100 answers; 20 % are borne." in told(text)
    assert text.count('class="failed"') == broken["failed"]
    assert '<span class="badge bad">BROKEN</span>' in text


def test_units_that_go_astray_are_said_with_the_evidence(tried_projects: Projects) -> None:
    found = {}
    for standing in ("running", "INVALID"):
        with ask(tried_projects[standing]) as client:
            found[standing] = client.get(PATH, params={"format": "json"}).json()["fits"], told(client.get(PATH).text)
    (assigned, labelled), text = found["INVALID"]
    assert (assigned["which"], labelled["which"]) == ("assigned", "labelled")
    assert assigned["expected"] == pytest.approx((7 * 0.1 + 14 * 0.5) / 21, abs=0.02)
    assert sum(assigned["units"]) == 21 * tried.UNITS
    assert assigned["evidence"] > assigned["refused_at"] == pytest.approx(3)
    assert "> 1,000,000 of 1,000" in text
    assert "does not fit" in text
    fits, text = found["running"]
    assert all(one["evidence"] < 1 for one in fits)
    assert "does not fit" not in text


def test_guardrails_say_what_the_open_days_add(tried_projects: Projects) -> None:
    with ask(tried_projects["running"]) as client:
        page = client.get(PATH, params={"format": "json"}).json()
        text = told(client.get(PATH).text)
    closed, now = page["guardrails"], page["beside"]["guardrails"]
    assert [one["watch"] for one in now] == ["errors", "invalid", "latency"]
    assert closed[0]["events"] == 21 * tried.UNITS
    assert now[0]["events"] == closed[0]["events"] + 2 * tried.UNITS
    assert "invalid answers all events so far" in text
    assert "no answer in 50 ms +0.00%" in text
    assert "63 more without a latency" in text


def test_segments_of_days_that_the_ledger_has_nothing_of_are_none(tried_projects: Projects) -> None:
    with ask(tried_projects["running"]) as client:
        beside = client.get(PATH, params={"format": "json", "segments": "carrier"}).json()["beside"]
        text = told(client.get(PATH, params={"segments": "carrier"}).text)
    assert (beside["field"], beside["segments"], beside["reasons"]) == ("carrier", [], [])
    assert "The ledger has no event of the closed days." in text


def test_the_record_is_signed_and_says_so_until_it_is_changed(tried_projects: Projects) -> None:
    project = tried_projects["PROMOTE"]
    record = trials.find(open_state(project.state), "production-2-2")
    assert record is not None
    assert record.signed is not None
    with ask(project) as client:
        page = client.get(PATH, params={"format": "json"}).json()
        text = told(client.get(PATH).text)
    assert page["beside"]["signature"]["state"] == "valid"
    for said in (record.signed.key, record.digest, record.signed.statement["table"]):
        assert said is not None
        assert said in text
    assert "passerelle trial replay --record production-2-2.json" in text
    with ask(tried_projects["running"]) as client:
        assert "It has not ended: it is signed when it has." in told(client.get(PATH).text)


def test_the_planner_answers_at_an_address_of_its_own(tried_projects: Projects) -> None:
    asked = {"margin": "0.21", "mode": "split", "share": "0.2"}
    with ask(tried_projects["BROKEN"]) as client:
        shadow = client.get("/trial", params={"format": "json", "margin": "0.2"}).json()["beside"]["outlook"]
        assert (shadow["margin_share"], shadow["forecast"]["mode"]) == (0.2, "shadow")
        client.get("/trial", params={"format": "json", **asked})  # a program waits for it, a page for what is there
        text = told(client.get("/trial", params=asked).text)
        assert "passerelle trial plan --margin 0.21 --mode split --share 0.2" in text
        said = [
            client.get("/trial", params={"format": "json", **asked, "share": share}).json() for share in ("0.2", "0.5")
        ]
        few, half = (one["beside"]["outlook"]["forecast"]["split"]["deviation"] for one in said)
        assert few > 1.1 * half  # 1 / (0.2 * 0.8) against 1 / 0.25, beside what both share
        client.get("/trial", params={"format": "json", "margin": "0.0001"})
        text = told(client.get("/trial", params={"margin": "0.0001"}).text)
    assert "It would not end in time: a margin of" in text
    assert "What would do: a margin of" in text


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        ({"margin": "much"}, "This was: much."),
        ({"margin": "nan"}, "This was: nan."),
        ({"margin": "0"}, "more than 0"),
        ({"share": "1"}, "less than 1"),
        ({"mode": "<b>"}, "This was: <b>."),
    ],
)
def test_what_cannot_be_planned_is_said_in_words(tried_projects: Projects, asked: dict[str, str], wrong: str) -> None:
    (said,) = question_of(asked).wrong
    assert wrong in said
    with ask(tried_projects["PROMOTE"]) as client:
        answer = client.get("/trial", params=asked)
    assert answer.status_code == 200
    assert said in told(answer.text)
    assert "This was: <b>" not in answer.text


def test_a_margin_beyond_the_bounds_is_said_in_words(tried_projects: Projects) -> None:
    with ask(tried_projects["BROKEN"]) as client:
        beside = client.get("/trial", params={"format": "json", "margin": "100"}).json()["beside"]
        text = told(client.get("/trial", params={"margin": "100"}).text)
    assert beside["unplanned"].startswith("a margin of 100 of the loss is ")
    assert beside["unplanned"][1:] in text


def funnel(*, champion: tuple[float, ...], challenger: tuple[float, ...]) -> Funnel:
    arms = [
        FunnelArm(version=n, assigned=10, scored=10, due=10, labelled=9, mature=9, known_after=known)
        for n, known in ((1, champion), (2, challenger))
    ]
    return Funnel(requests=20, champion=arms[0], challenger=arms[1], horizon_hours=40)


def test_delays_are_drawn_by_version_from_the_event_to_the_horizon() -> None:
    slow = (0.0,) * 9 + (0.9,)
    drawn = delay_chart(funnel(champion=(0.5,) * 10, challenger=slow), paired=False)
    figure = graph_objects.Figure(coloured(drawn))
    assert [line.name for line in figure.data] == ["version 1", "version 2"]
    assert figure.data[0].x == tuple(range(0, 41, 4))
    assert figure.data[1].y == (0.0, *slow)
    one = delay_chart(funnel(champion=slow, challenger=slow), paired=True)
    assert one is not None
    assert [line["name"] for line in one["data"]] == ["both versions"]
    assert delay_chart(funnel(champion=(), challenger=()), paired=False) is None


def test_a_change_after_the_last_day_has_no_place_and_days_without_events_do_no_harm() -> None:
    points = [msgspec.structs.replace(point(n), events=0) for n in range(3)]
    start = points[0].start
    late = [(start + timedelta(days=3), "50%"), (start + timedelta(days=1), "10%")]
    plan = tried.lived.make_plan(champion=1, challenger=2, revision=2, at=start)
    figure = estimate_chart(plan, points, None, stages=late)
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["the margin", "<b>10%</b>"]
    assert figure["layout"]["xaxis"]["range"][1] > 0
    assert place_of([], start) == 0
