"""A guardrail that fails ends a split at the next tick, days before the outcomes come."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import cast

from living import FIRST, make_project
from shelf import Shelf
from test_trial_verb import NOON

from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import record as keep
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.loop.rollout import revisions
from passerelle.loop.trying import advance, begin
from passerelle.registry.versions import Registry
from passerelle.trial.replaying import replay

SETTINGS = 'mode = "split"\nguardrails = [{ watch = "errors", margin = 0.02 }]\n'


def test_a_guardrail_that_fails_rolls_back_before_outcomes_come(tmp_path: Path) -> None:
    project = make_project(tmp_path / "orders", SETTINGS)
    registry = cast("Registry", Shelf(project))
    for version in (1, 2):
        begun = begin(project, registry, version, salt="s", now=NOON)
    assert begun is not None
    start = FIRST + timedelta(days=1)
    records = [
        Prediction(
            id=f"{number}",
            unit=f"{number}",
            role="live",
            status="failed" if number % 20 == 1 else "scored",
            revision=2,
            version=1 + number % 2,
            digest="d" * 64,
            trial=begun.plan.id,
            probability=0.5,
            inputs={},
            output=None if number % 20 == 1 else (0.2,),
            event_at=start + number * timedelta(minutes=1),
            received_at=start + number * timedelta(minutes=1),
        )
        for number in range(700)
    ]
    folder = ledger_folder(project.state, "production")
    asyncio.run(keep(LocalStorage(folder), records[:60], slot="worker-0"))
    going = advance(project, registry, now=start + timedelta(hours=1))
    assert going is not None
    assert going.status == "running", "three failures prove nothing, and break nothing"
    asyncio.run(keep(LocalStorage(folder), records[60:], slot="worker-1"))
    ended = advance(project, registry, now=start + timedelta(hours=12))
    assert ended is not None
    assert ended.verdict is not None
    assert (ended.status, ended.verdict.kind) == ("ended", "ROLL_BACK")
    current = revisions(project, "production").current()
    assert current is not None
    assert current.champion.version == 1
    assert [variant.version for variant in current.variants] == [1]
    assert replay(project, begun.plan.id).same
