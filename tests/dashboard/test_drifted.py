"""The page of drift: what the rule judged, field by field, with the histograms of the day that is asked for."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import httpx
import lived
import pytest
from moved import CARRIERS, REFERENCE
from plotly import graph_objects
from shown import ask
from test_charts import coloured

from passerelle.dashboard import drift_charts, drifted
from passerelle.dashboard.exporting import as_csv
from passerelle.dashboard.reading import Reader, Seen
from passerelle.project.settings import Project

LAST = datetime(2013, 6, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def seen(project: Project) -> Seen:
    return Reader(project, "production").read()


def made(seen: Seen, project: Project, **asked: Any) -> drifted.DriftPage:
    reader = Reader(project, "production")
    chosen = drifted.choose(seen, asked=asked.get("day"), fields=asked.get("fields", ()))
    assert chosen is not None
    counted = reader.counts(chosen.start)
    assert counted is not None
    return drifted.drift_page(
        seen,
        span=asked.get("span", 90),
        chosen=chosen,
        counts=counted[1],
        reference=reader.reference(counted[0]),
        now=lived.NOW,
    )


def test_the_alarm_names_its_field_and_its_day_is_shown_first(seen: Seen, project: Project) -> None:
    page = made(seen, project)
    assert page.sentence.startswith("1 alarm of drift so far, the last on 2")
    assert page.sentence.endswith("June: the inputs differed from the days before (temp).")
    assert [one.of for one in page.alarms] == ["inputs"]
    assert page.day == page.alarms[0].start
    assert len(page.days) == 90
    assert page.days[-1] == LAST
    assert [one.name for one in page.fields] == ["carrier", "phone", "temp", "score 0"]
    temp = page.fields[2]
    assert temp.most_day == page.alarms[0].start
    assert temp.most is not None
    assert temp.most > 1000 > (page.fields[0].most or 0)
    assert temp.alone == 8000  # four streams of numbers, three of names, one of a hidden field
    inputs, scores = page.rules
    assert (inputs.raised, inputs.threshold, inputs.judged) == (1, 1000, 127)
    assert inputs.expected == pytest.approx(0.127)
    assert (scores.raised, scores.judged) == (0, 129)


def test_a_day_that_is_asked_for_stands_beside_the_reference(seen: Seen, project: Project) -> None:
    page = made(seen, project, day=LAST.date(), fields=("carrier", "phone", "nothing"), span=28)
    assert page.day == LAST
    assert len(page.days) == 28
    assert page.hidden == ("phone",)
    carrier = page.histograms[0]
    assert set(carrier.labels) == {*CARRIERS, "all others"}
    assert sum(carrier.day) == pytest.approx(1)
    before = REFERENCE.inputs["carrier"]
    assert carrier.reference[carrier.labels.index("UA")] == before.values["UA"] / 4000  # type: ignore[union-attr]  (names)


def test_the_charts_are_what_plotly_knows(seen: Seen, project: Project) -> None:
    page = made(seen, project)
    heat = graph_objects.Figure(coloured(drift_charts.heat_chart(page)))
    assert heat.data[0].y[-2:] == ("carrier", "an alarm")
    assert max(value for value in heat.data[0].z[1] if value is not None) == 6  # temp, clipped
    assert list(heat.data[1].x) == [f"{page.alarms[0].start:%Y-%m-%d}T12:00"]
    mean = graph_objects.Figure(coloured(drift_charts.mean_chart(page.rules)))
    assert [shape.y0 for shape in mean.layout.shapes] == [1000]
    bars = graph_objects.Figure(coloured(drift_charts.histogram_chart(page.histograms[0])))
    assert bars.data[1].y == page.histograms[0].reference
    names = drift_charts.histogram_chart(made(seen, project, fields=("carrier",)).histograms[0])
    assert "&lt;b>EV&lt;/b>" in names["data"][0]["x"]


def test_without_a_judged_day_nothing_is_drawn(bare: Project) -> None:
    seen = Reader(bare, "production").read()
    page = drifted.drift_page(seen, span=90, chosen=None, counts=None, reference=None, now=lived.NOW)
    assert page.sentence.startswith("No day has been measured yet")
    with pytest.raises(ValueError, match="no day was judged"):
        drift_charts.heat_chart(page)
    with pytest.raises(ValueError, match="no day was judged"):
        drift_charts.mean_chart(page.rules)
    with ask(bare) as client:
        assert "No day has been measured yet" in client.get("/drift").text


def test_the_address_says_what_is_shown(client: httpx.Client) -> None:
    text = client.get("/drift", params={"day": "2013-06-20", "days": "28", "field": "carrier"}).text
    assert "The fields on" in text
    assert ">20 June<" in text
    assert "&lt;b&gt;EV&lt;/b&gt;" in text
    assert 'href="?format=csv&amp;days=28&amp;day=2013-06-20"' in text
    page = client.get("/drift", params={"day": "no day", "days": "5", "format": "json"}).json()
    assert (page["span"], page["day"]) == (90, "2013-06-22T00:00:00Z")
    answer = client.get("/drift", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {one["field"] for one in rows} == {"carrier", "phone", "temp", "score 0"}


def test_a_reader_reads_only_the_days_that_are_new(seen: Seen, project: Project) -> None:
    reader = Reader(project, "production")
    first = reader.read()
    again = reader._read()
    assert again.windows == first.windows == seen.windows


def test_a_table_for_a_spreadsheet_holds_no_formula() -> None:
    text = as_csv([{"name": "=cmd()", "value": -1.5, "day": LAST, "all": ["a", "b"]}, {"name": None, "more": True}])
    assert text.splitlines() == [
        "name,value,day,all,more",
        '\'=cmd(),-1.5,2013-06-24T00:00:00Z,"a, b",',
        ",,,,yes",
    ]
