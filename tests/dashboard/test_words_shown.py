"""What a reader is told on the pages of a small project, as it is sent."""

from __future__ import annotations

import lived
from shown import ask

from passerelle.monitoring.alerts import Finding, settle
from passerelle.monitoring.rules import rule_of
from passerelle.project.settings import Project
from passerelle.state.database import open_state, writing


def test_a_report_that_an_alert_speaks_of_is_a_link(bare: Project) -> None:
    details = {"deliveries": ["old1", "new2"], "newest": "new2"}
    finding = Finding(state="firing", sentence="the delivery a.csv was put aside", details=details)
    with writing(open_state(bare.state)) as connection:
        settle(connection, "production", rule_of(bare, "quarantine"), finding, now=lived.NOW)
    with ask(bare) as client:
        for page in ("/", "/alerts"):
            text = client.get(page).text
            assert text.index('<a href="/data/quarantine/new2">') < text.index('<a href="/data/quarantine/old1">')
