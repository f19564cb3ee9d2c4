"""What a reader is told on the pages of a small project, as it is sent."""

from __future__ import annotations

import httpx
import lived
from shown import ask

from passerelle.monitoring.alerts import Finding, settle
from passerelle.monitoring.rules import rule_of
from passerelle.project.settings import Project
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import Event, record


def test_a_report_that_an_alert_speaks_of_is_a_link(bare: Project) -> None:
    details = {"deliveries": ["old1", "new2"], "newest": "new2"}
    finding = Finding(state="firing", sentence="the delivery a.csv was put aside", details=details)
    with writing(open_state(bare.state)) as connection:
        settle(connection, "production", rule_of(bare, "quarantine"), finding, now=lived.NOW)
    with ask(bare) as client:
        for page in ("/", "/alerts"):
            text = client.get(page).text
            assert text.index('<a href="/data/quarantine/new2">') < text.index('<a href="/data/quarantine/old1">')


def test_what_happened_on_one_day_has_no_last_day(bare: Project) -> None:
    for number in range(2):
        said = Event(at=lived.NOW, kind="note", subject=str(number), sentence="x")
        record(open_state(bare.state), said)
    with ask(bare) as client:
        assert client.get("/timeline?format=json").json()["sentence"] == "2 things have happened on 27 June."


def test_one_row_is_no_rows_and_a_loss_says_what_it_is_counted_in(client: httpx.Client) -> None:
    rows = {one["id"]: one["rows"] for one in client.get("/data?format=json").json()["deliveries"]}
    single = [delivery for delivery, tables in rows.items() if tables.get("events") == 1]
    assert single
    for page in ("/data", f"/data/quarantine/{single[0]}"):
        text = client.get(page).text
        assert "1 row of events" in text
        assert "1 rows" not in text
    plan = client.get("/trials/production-2-2?format=json").json()["plan"]
    assert plan["Rolled back"] == "if proven worse by more than 0.0042 (Brier per event)"
    assert "worse by at most 0.0042 (Brier per event)" in client.get("/trials/production-2-2").text
