"""A challenger whose model raises, behind a real endpoint of two workers: the breaker counts what the ledger holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

from passerelle.ledger.compaction import compact
from passerelle.ledger.storage import ledger_folder
from passerelle.serving.observation import wait_observed
from passerelle.trial.breaker import breaks, last_answers, look_since, recount
from passerelle.trial.verdict import Plan

TRIAL = "production-666-2"


def plan_of(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "id": TRIAL,
        "environment": "production",
        "champion": 1,
        "challenger": 666,
        "mode": "split",
        "share": 0.5,
        "task": "binary",
        "classes": (False, True),
        "loss": "brier",
        "cap": None,
        "margin": 0.01,
        "reference": 0.2,
        "reference_source": "its holdout",
        "alpha": 0.05,
        "unit": "day",
        "min_days": 14,
        "max_days": 60,
        "horizon_hours": 24.0,
        "rollback_above": 0.0,
        "planned_n": 1000,
        "started_at": datetime.now(UTC),
        "breaker_percent": 20.0,
    }
    return Plan(**(fields | changes))


def test_a_challenger_that_raises_is_counted_over_all_workers_before_and_after_compaction(land: Any) -> None:
    land.deploy(1)
    champion = land.revisions.get(1).variants[0]
    land.deploy(666)
    challenger = land.revisions.get(2).variants[0]
    both = [_at_half(one) for one in (champion, challenger)]
    land.deploy(666, variants=tuple(both), trial=TRIAL)
    with land.serve(workers=2) as endpoint:
        wait_observed(land.environment, 3, 2, 10)
        codes = []
        for number in range(80):
            event = {"id": f"e-{number}", "inputs": {"distance": 1.0, "carrier": "UA", "plane": None}}
            reply = httpx.post(f"{endpoint.url}/predict", json=event, timeout=30)
            codes.append(reply.status_code)
        folder, since = ledger_folder(land.project.state, "production"), look_since(datetime.now(UTC))
        broken = breaks(plan_of(), last_answers(folder, plan_of(), since=since))
        assert broken is not None, codes
        assert broken.failed == broken.answers, "it answers nobody"
        assert 25 <= broken.answers <= 55, "about half of the eighty"
        assert len(broken.position.writers) == 2, "both workers wrote"
    compact(folder, now=datetime.now(UTC))
    assert recount(folder, plan_of(), broken) == broken
    champions = plan_of(challenger=1, champion=666)
    assert breaks(champions, last_answers(folder, champions, since=since)) is None, "the other one is well"
    assert breaks(plan_of(breaker_percent=None), last_answers(folder, plan_of(), since=since)) is None
    assert breaks(plan_of(breaker_percent=100.0), last_answers(folder, plan_of(), since=since)) is None


def _at_half(variant: Any) -> Any:
    return type(variant)(version=variant.version, bundle=variant.bundle, digest=variant.digest, weight=0.5)
