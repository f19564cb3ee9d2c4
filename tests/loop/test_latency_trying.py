"""A challenger that is too slow is taken back at the next tick; one that has no more slow answers goes on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from living import FIRST, current, make_project
from shelf import Shelf
from test_trial_verb import NOON

from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import record as keep
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.loop.trying import advance, begin
from passerelle.project.settings import Guardrail
from passerelle.registry.versions import Registry
from passerelle.trial.replaying import replay

SETTINGS = 'mode = "split"\n[[trial.guardrails]]\nwatch = "latency"\nlimit_ms = 50\nmargin = 0.02\n'


@pytest.mark.parametrize(("slow_ms", "status", "champion"), [(80.0, "ended", 1), (49.0, "running", 1)])
def test_what_is_beyond_the_limit_rolls_back(tmp_path: Path, slow_ms: float, status: str, champion: int) -> None:
    project = make_project(tmp_path / "orders", SETTINGS)
    registry = cast("Registry", Shelf(project))
    for version in (1, 2):
        begun = begin(project, registry, version, salt="s", now=NOON)
    assert begun is not None
    assert begun.plan.guardrails == (Guardrail(watch="latency", limit_ms=50, margin=0.02),)
    start = FIRST + timedelta(days=1)
    records = [
        Prediction(
            id=f"{number}",
            unit=f"{number}",
            role="live",
            status="scored",
            revision=2,
            version=1 + number % 2,
            digest="d" * 64,
            trial=begun.plan.id,
            probability=0.5,
            inputs={},
            output=(0.2,),
            event_at=start + number * timedelta(minutes=1),
            received_at=start + number * timedelta(minutes=1),
            latency_ms=slow_ms if number % 4 == 1 else 20.0,
        )
        for number in range(700)
    ]
    asyncio.run(keep(LocalStorage(ledger_folder(project.state, "production")), records, slot="worker-0"))
    found = advance(project, registry, now=start + timedelta(hours=12))
    assert found is not None
    assert (found.status, current(project).champion.version) == (status, champion)
    if status == "ended":
        assert found.verdict is not None
        assert found.verdict.kind == "ROLL_BACK"
        assert "no answer in 50 ms +50.00 % (" in found.verdict.sentence
        assert [variant.version for variant in current(project).variants] == [1]
        assert replay(project, begun.plan.id).same
