"""The tour's own arithmetic; its life is in tests/journey."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage
from passerelle.tour.report import doubled

NOW = datetime(2013, 2, 1, tzinfo=UTC)


def test_a_second_record_is_a_fault_unless_its_event_was_sent_again(tmp_path: Path) -> None:
    one = Prediction(
        id="a",
        unit="a",
        role="live",
        status="scored",
        revision=1,
        version=1,
        digest="d",
        inputs={},
        output=(0.5,),
        event_at=NOW,
        received_at=NOW,
    )
    other = msgspec.structs.replace(one, id="b")
    asyncio.run(record(LocalStorage(tmp_path / "ledger"), [one, other, other, one, one], slot="w0"))
    assert doubled(tmp_path / "ledger", set()) == 3
    assert doubled(tmp_path / "ledger", {"a"}) == 1
