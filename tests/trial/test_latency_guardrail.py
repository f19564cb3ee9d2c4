"""The guardrail on latency: what took longer than its limit, of events that say something of their own."""

from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_guarding import guarded, with_tally
from trial_days import DAY, START, days, plan_of, prediction, project_in, write

from passerelle.decoding import prepared
from passerelle.ledger.compaction import compact
from passerelle.ledger.records import Prediction, Record
from passerelle.project.settings import Guardrail
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.counts import Tally
from passerelle.trial.evidence import close_blocks
from passerelle.trial.failing import failing
from passerelle.trial.guarding import guard, guarded_words
from passerelle.trial.judging import digest, judge
from passerelle.trial.replaying import replay
from passerelle.trial.verdict import Block, Plan

LATENCY = Guardrail(watch="latency", margin=0.02, limit_ms=50)
PLAN = plan_of(
    mode="split",
    share=0.5,
    margin=0.05,
    rollback_above=0.0,
    min_days=4,
    max_days=20,
    guardrails=(LATENCY,),
)
MINUTE = timedelta(minutes=1)


def timed(count: int, *, slow: float, seed: int = 3) -> list[list[Record]]:
    """Days of a split of equal versions; the challenger takes 80 ms for a share of its events, else both take 20."""
    rng = np.random.default_rng(seed)
    return [
        [
            msgspec.structs.replace(one, latency_ms=80.0 if one.version == 2 and rng.random() < slow else 20.0)
            if isinstance(one, Prediction)
            else one
            for one in day
        ]
        for day in days(count, rows=240, plan=PLAN)
    ]


def judged(root: Path, records: list[list[Record]]) -> tuple[Plan, list[Block], Path]:
    project = project_in(root)
    record = trials.start(open_state(project.state), PLAN)
    folder = write(project, [one for day in records for one in day])
    return PLAN, close_blocks(project, record, now=START + DAY * (len(records) + 3)), folder


def test_within_the_limit_it_passes_and_is_promoted(tmp_path: Path) -> None:
    plan, blocks, folder = judged(tmp_path, timed(12, slow=0.0))
    verdict = judge(plan, blocks)
    assert verdict.kind == "PROMOTE"
    [says] = verdict.guardrails
    assert (says.watch, says.limit_ms, says.state, says.estimate, says.unmeasured) == ("latency", 50, "pass", 0.0, 0)
    assert says.upper < 0.02
    assert "no answer in 50 ms +0.00 % (" in verdict.sentence
    waiting = judge(plan, blocks[:4])
    assert (waiting.kind, waiting.guardrails[0].state) == ("KEEP_GOING", "pending")
    assert ", and guardrails must pass: latency" in waiting.sentence
    compact(folder, now=START)
    assert replay(project_in(tmp_path), plan.id).same


def test_a_better_loss_does_not_buy_slowness(tmp_path: Path) -> None:
    """A sixth of the answers beyond the limit: promoted without the guardrail, taken back with it."""
    plan, blocks, folder = judged(tmp_path, timed(12, slow=1 / 6))
    assert judge(msgspec.structs.replace(plan, guardrails=()), blocks).kind == "PROMOTE"
    verdict = judge(plan, blocks)
    assert verdict.kind == "ROLL_BACK"
    [says] = verdict.guardrails
    assert (says.state, says.lower > 0) == ("fail", True)
    assert says.estimate == pytest.approx(1 / 6, abs=0.05)
    early = failing(folder, plan, [], now=START + 2 * DAY)
    assert early is not None
    assert early.kind == "ROLL_BACK", "it needs no outcome"
    assert "without waiting for outcomes: no answer in 50 ms +1" in early.sentence


def at(minute: float, version: int, latency_ms: float | None, **changes: object) -> Prediction:
    number = f"{minute:08.3f}-{version}"
    outputs = None if "status" in changes else [0.3]
    moment = START + minute * MINUTE
    return prediction(number, moment, outputs, version=version, probability=0.5, latency_ms=latency_ms, **changes)


def tally(root: Path, *records: Prediction) -> Tally:
    project = project_in(root)
    record = trials.start(open_state(project.state), PLAN)
    write(project, records)
    blocks = close_blocks(project, record, now=START + DAY * 2.6)
    [[found]] = blocks[0].guards
    return found


def test_without_an_answer_by_the_limit_is_over_it_whatever_became_of_it(tmp_path: Path) -> None:
    found = tally(
        tmp_path,
        at(1, 2, 50.0),
        at(2, 2, 50.001),
        at(3, 2, 3.0, status="failed"),
        at(4, 2, 1000.0, status="timed_out"),
        at(5, 1, 60.0),
        at(6, 1, 49.0),
    )
    assert found == Tally(share=0.5, events=6, worse=3, better=1)


def test_what_has_no_latency_is_not_counted_and_that_is_said(tmp_path: Path) -> None:
    found = tally(tmp_path, at(1, 2, None), at(2, 1, None, status="failed"), at(3, 2, 10.0))
    assert found == Tally(share=0.5, events=1, worse=0, better=0, unmeasured=2)
    plan = guarded(LATENCY, mode="split")
    some = guard(plan, [with_tally(0, 0.0, found)], 0).says
    assert guarded_words(some).endswith("margin +2.00 %): pending (2 events have no latency in the ledger)")
    none = guard(plan, [with_tally(0, 0.0, msgspec.structs.replace(found, events=0))], 0).says
    assert guarded_words(none) == "no answer in 50 ms: no event yet (2 events have no latency in the ledger)"


def test_of_a_unit_the_first_event_counts_and_of_a_minute_one(tmp_path: Path) -> None:
    """A challenger that is held up for twenty seconds has been slow once, whoever waited."""
    held_up = [at(100 + number / 1200, 2, 900.0) for number in range(400)]
    again = [at(200 + number, 2, 900.0, unit="one") for number in range(50)]
    others = [at(300 + number, number % 2 + 1, 20.0) for number in range(40)]
    found = tally(tmp_path, *held_up, *again, *others)
    assert found == Tally(share=0.5, events=42, worse=2, better=0)
    plan = guarded(LATENCY, mode="split", rollback_above=0.0)
    assert guard(plan, [with_tally(0, 0.0, found)], 0).failed is None
    naive = Tally(share=0.5, events=490, worse=450, better=0)
    assert guard(plan, [with_tally(0, 0.0, naive)], 0).failed == 1


def test_equal_versions_that_are_held_up_now_and_then_are_not_rolled_back() -> None:
    """Each stands still for ten seconds about once an hour. All events would be the naive count, which must fail."""
    rng = np.random.default_rng(7)
    plan = guarded(LATENCY, mode="split", rollback_above=0.0)

    def failed(width_s: float) -> float:
        """The share of weeks with a false roll-back, where one event counts of this many seconds."""
        found = 0
        for _ in range(25):
            at_s = (np.arange(7 * 86_400 / width_s) + rng.random(int(7 * 86_400 / width_s))) * width_s
            mine = rng.random(len(at_s)) < 0.5
            over = np.zeros(len(at_s), dtype=bool)
            for arm in (False, True):
                starts = np.sort(rng.uniform(0, 7 * 86_400, rng.poisson(7 * 24)))
                last = starts[np.maximum(np.searchsorted(starts, at_s, side="right") - 1, 0)]
                over |= (mine == arm) & (last <= at_s) & (at_s < last + 10)
            day = (at_s // 86_400).astype(int)
            tallies = [np.bincount(day[mask], minlength=7).tolist() for mask in (over >= 0, over & mine, over & ~mine)]
            blocks = [
                with_tally(number, 0.0, Tally(share=0.5, events=events, worse=worse, better=better))
                for number, (events, worse, better) in enumerate(zip(*tallies, strict=True))
            ]
            found += guard(plan, blocks, 0).failed is not None
        return found / 25

    assert failed(60) <= 0.08
    assert failed(0.5) >= 0.2, "the naive count"


def test_a_plan_and_a_block_of_before_are_what_they_were() -> None:
    """Kept by a Passerelle that knew no limit: read, with the digest that was written down then."""
    guardrails = msgspec.json.decode(b'[{"watch":"errors","margin":0.02}]', type=prepared(tuple[Guardrail, ...]))
    tallies = msgspec.json.decode(
        b'[{"share":0.25,"events":40,"worse":2,"better":1}]', type=prepared(tuple[Tally, ...])
    )
    plan = guarded(*guardrails, mode="split", share=0.25, rollback_above=0.0)
    kept = [with_tally(0, 0.01, *tallies), with_tally(1, -0.01)]
    assert digest(plan, kept) == "fbb35d2289da423d09c93b8b96f2fbb3588fce19e7aaf0690097b7928002f319"
    assert guard(plan, kept, 0).says.limit_ms is None
    assert digest(msgspec.structs.replace(plan, guardrails=(LATENCY,)), kept) != digest(plan, kept)
