"""A guardrail that fails takes a challenger of a split back before outcomes come; and that can be computed again."""

from datetime import timedelta
from pathlib import Path

import msgspec
from trial_days import DAY, START, plan_of, prediction, project_in, write

from passerelle.ledger.records import Prediction
from passerelle.project.settings import Guardrail
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.evidence import close_blocks
from passerelle.trial.failing import failing
from passerelle.trial.replaying import replay

HOUR = timedelta(hours=1)
#: Nobody gave the digest.
_DIGEST = "the plan or the block table is not what the verdict was decided from: its digest differs"
PLAN = plan_of(mode="split", rollback_above=0.0, guardrails=(Guardrail(watch="errors", margin=0.02),))


def events(first: int, last: int, *, broken: bool) -> list[Prediction]:
    """An event each quarter of an hour, to each version in turn; a broken challenger fails on every other."""
    return [
        prediction(
            f"{number}",
            START + number * HOUR / 4,
            None if broken and number % 4 == 1 else [0.1],
            version=1 + number % 2,
            probability=0.5,
        )
        for number in range(first, last)
    ]


def test_errors_are_not_waited_for(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    engine = open_state(project.state)
    record = trials.start(engine, PLAN)
    folder = write(project, events(0, 140, broken=True))
    now = START + 35 * HOUR
    blocks = close_blocks(project, record, now=now)
    assert blocks == [], "no outcome is due yet"
    verdict = failing(folder, PLAN, blocks, now=now)
    assert verdict is not None
    assert (verdict.kind, verdict.decided_by) == ("ROLL_BACK", START + DAY)
    assert verdict.guardrails[0].state == "fail"
    assert "without waiting for outcomes: errors +50.00 % (" in verdict.sentence
    trials.decide(engine, PLAN.id, verdict, at=now, delta={}, digest="")
    came_late = [msgspec.structs.replace(one, id=f"late-{one.id}") for one in events(0, 400, broken=False)]
    write(project, came_late, slot="later")
    assert failing(folder, PLAN, blocks, now=now) != verdict
    assert failing(folder, PLAN, blocks, now=now, watched=verdict.watched) == verdict
    assert replay(project, PLAN.id).differences == (_DIGEST,)


def test_what_does_not_fail_goes_on(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    folder = write(project, events(0, 140, broken=False))
    assert failing(folder, PLAN, [], now=START + 35 * HOUR) is None
    assert failing(folder, PLAN, [], now=START - HOUR) is None


def test_only_a_split_with_guardrails_is_watched(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    folder = write(project, events(0, 140, broken=True))
    for plan in (msgspec.structs.replace(PLAN, mode="shadow"), msgspec.structs.replace(PLAN, guardrails=())):
        assert failing(folder, plan, [], now=START + 35 * HOUR) is None
