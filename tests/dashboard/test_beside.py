"""What of a trial is for people to look at: the funnel, provisional days, segments, guardrails, the next trial."""

from __future__ import annotations

from datetime import timedelta

import lived
import msgspec
import pytest
from large import DAYS, ROWS
from plotly import graph_objects
from shown import ask
from test_charts import PLAN, START, coloured, point

from passerelle.dashboard.charts import estimate_chart
from passerelle.dashboard.reading import Reader, Seen
from passerelle.dashboard.trying import stages, table, trial_page
from passerelle.project.settings import Project
from passerelle.trial.provisional import Provisional
from passerelle.trial.verdict import Guarding


def test_a_running_trial_shows_what_is_not_mature_and_never_decides(answered: Project) -> None:
    with ask(answered) as client:
        page = client.get("/trial", params={"format": "json", "segments": "carrier"}).json()
        text = client.get("/trial", params={"segments": "carrier"}).text
    beside = page["beside"]
    assert beside["reasons"] == []
    assert beside["fields"] == ["carrier"]
    a_day = ROWS // DAYS
    funnel = beside["funnel"]
    open_days = len(beside["provisional"])
    assert open_days == 3  # 25, 26 and 27 June: the last closed block is the 24th
    closed = sum(block["rows"] + block["unlabelled"] for block in page["blocks"])
    assert funnel["requests"] == closed + 2 * a_day  # nothing of the 27th
    assert funnel["champion"]["due"] < funnel["champion"]["labelled"] < funnel["champion"]["assigned"]
    assert beside["provisional"][0]["events"] == a_day
    assert {one["value"] for one in beside["segments"]} == {"UA", "B6"}
    assert beside["outlook"] is None  # one is running
    assert "exploratory" in text
    assert "Segments of carrier" in text
    assert 'href="?format=json&amp;segments=carrier"' in text


def test_provisional_days_are_dashed_and_changes_of_the_share_marked() -> None:
    early = [
        Provisional(start=START + timedelta(days=n), events=9, rows=5, difference=0.1, estimate=0.002) for n in (14, 15)
    ]
    steps = [(START + timedelta(days=4, hours=7), "50%")]
    points = [point(number) for number in range(14)]
    figure = graph_objects.Figure(coloured(estimate_chart(PLAN, points, None, provisional=early, stages=steps)))
    line = figure.data[-1]
    assert line.line.dash == "dash"
    assert line.y == (0.001, 0.002, 0.002)
    assert line.line.color == coloured("--soft")
    assert line.x == (1400, 1405, 1410)
    assert figure.layout.xaxis.range[1] == pytest.approx(1410 * 1.05)
    assert [one.text for one in figure.layout.annotations][-1] == "<b>50%</b>"
    assert figure.layout.shapes[-1].x0 == pytest.approx(400 + 100 * 7 / 24)  # seven hours into the fifth day


@pytest.fixture(scope="module")
def seen(project: Project) -> Seen:
    return Reader(project, "production").read()


def test_a_share_that_was_changed_on_the_way_is_a_stage(seen: Seen) -> None:
    record = seen.trials[-1]
    first = next(one for one in seen.revisions if one.trial == record.plan.id)
    champion, challenger = first.variants
    split = msgspec.structs.replace
    low = (split(champion, weight=0.9), split(challenger, mode="live", weight=0.1))
    half = (split(champion, weight=0.5), split(challenger, mode="live", weight=0.5))
    later = first.created_at + timedelta(days=3)
    made = (split(first, variants=low), split(first, variants=half, revision=99, created_at=later))
    assert stages(split(seen, revisions=made), record) == [(later, "50%")]
    assert stages(seen, record) == []


def test_guardrails_stand_in_a_table_and_days_can_be_taken_away(seen: Seen, project: Project) -> None:
    record = seen.trials[0]
    assert record.verdict is not None
    guarding = Guarding(
        watch="errors", margin=0.01, estimate=0.001, lower=-0.002, upper=0.004, state="pass", events=900
    )
    said = msgspec.structs.replace(record.verdict, guardrails=(guarding,))
    blocks = seen.blocks[record.plan.id]
    page = trial_page(seen, record, said, [point(n) for n in range(len(blocks))], now=lived.NOW)
    assert page.guardrails == (guarding,)
    assert len(table(page)) == len(blocks)
    assert table(page)[0]["difference"] == blocks[0].difference
    assert project.root
