"""A split goes up step by step, each held, and stays where something speaks against it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from living import A_DAY, FIRST, current
from splitting import NOON, answer, split_project
from test_trying import last, told, variants

from passerelle.loop import trying
from passerelle.loop.rollout import PRODUCTION, deploy, renew, revisions, roll_back
from passerelle.loop.stepping import held
from passerelle.loop.trying import advance
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry
from passerelle.trial.replaying import replay

STEPS = (0.1, 0.3, 0.5)


@pytest.fixture
def tried(tmp_path: Path) -> tuple[Project, Registry]:
    return split_project(tmp_path / "orders", steps=STEPS)


def live(tried: tuple[Project, Registry], now: datetime) -> float:
    """A tick; the challenger's share after it."""
    project, versions = tried
    advance(project, versions, now=now)
    return current(project).live[-1].weight


def test_each_step_is_held_and_then_the_next_one_taken_on_the_timeline(tried: tuple[Project, Registry]) -> None:
    project, _ = tried
    assert variants(project) == [(1, "live", 0.9), (2, "live", 0.1)]
    assert "on 10%, then 30%, then 50% of the units" in told(project, "trial")[-1]
    answer(project, NOON, rows=400)
    assert live(tried, NOON + A_DAY * 0.99) == 0.1, "it holds"
    assert live(tried, NOON + A_DAY) == 0.3
    assert live(tried, NOON + A_DAY) == 0.3, "the same tick once more does nothing"
    answer(project, NOON + A_DAY, rows=400)
    assert live(tried, NOON + 1.9 * A_DAY) == 0.3
    assert live(tried, NOON + 5 * A_DAY) == 0.5, "a step at a time, however late the tick"
    answer(project, NOON + 5 * A_DAY, rows=400)
    assert live(tried, NOON + 6.5 * A_DAY) == 0.5, "the last step"
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3, 4]
    assert {revisions(project, PRODUCTION).get(number).trial for number in (2, 3, 4)} == {"production-2-2"}
    assert told(project, "deployment")[-2:] == [
        "revision 3: version 2 goes from 10 % to 30 % of the units (step 2 of 3)",
        "revision 4: version 2 goes from 30 % to 50 % of the units (step 3 of 3)",
    ]


def test_a_verdict_over_steps_is_recomputed_and_executed(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders", steps=(0.2, 0.5), margin=0.5, min_days=3, max_days=9)
    for number in range(1, 8):
        answer(project, FIRST + number * A_DAY, rows=400, challenger=0.2)
        advance(project, versions, now=FIRST + (number + 1) * A_DAY + A_DAY * 0.55)
        if last(project).status == "ended":
            break
    record = last(project)
    assert record.verdict is not None
    assert record.verdict.kind == "PROMOTE"
    assert variants(project) == [(2, "live", 1.0)]
    assert replay(project, record.plan.id).same


def test_too_few_answers_hold_it_back_and_that_is_told_once(tried: tuple[Project, Registry]) -> None:
    project, _ = tried
    answer(project, NOON, rows=60)
    assert live(tried, NOON + A_DAY) == 0.1
    assert live(tried, NOON + 1.1 * A_DAY) == 0.1
    held_back = [one for one in told(project, "trial") if "stays at 10 %" in one]
    assert len(held_back) == 1
    assert "fewer than 20 events" in held_back[0]


def test_units_that_go_astray_hold_it_back_before_their_day_has_closed(tried: tuple[Project, Registry]) -> None:
    project, _ = tried
    answer(project, FIRST + A_DAY, rows=600, share=0.5)
    assert live(tried, FIRST + 2 * A_DAY) == 0.1
    assert "do not fit their shares" in told(project, "trial")[-1]


def test_a_challenger_that_breaks_goes_no_step_further(tried: tuple[Project, Registry]) -> None:
    project, _ = tried
    answer(project, NOON, rows=400, failing=0.6)
    live(tried, NOON + A_DAY)
    assert variants(project) == [(1, "live", 1.0)]
    assert last(project).verdict is not None
    assert current(project).revision == 3


@pytest.mark.parametrize("how", ["roll back", "deploy"])
def test_a_persons_revision_in_between_ends_it(tried: tuple[Project, Registry], how: str) -> None:
    project, versions = tried
    answer(project, NOON, rows=400)
    if how == "deploy":
        deploy(project, versions, 3, now=NOON + A_DAY / 2, reason="mine")
    else:
        roll_back(project, now=NOON + A_DAY / 2, reason="mine")
    before = variants(project)
    live(tried, NOON + A_DAY)
    assert variants(project) == before
    assert last(project).status == "ended"
    assert "a person made revision 3 meanwhile (mine)" in (last(project).execution or "")


def test_a_person_who_is_quicker_than_the_step_wins(
    tried: tuple[Project, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    from passerelle.loop import stepping

    project, versions = tried
    answer(project, NOON, rows=400)
    put = stepping.deploy

    def overtaken(*arguments: object, **named: object) -> object:
        roll_back(project, now=NOON, reason="just now")
        return put(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stepping, "deploy", overtaken)
    record = advance(project, versions, now=NOON + A_DAY)
    assert record is not None
    assert record.status == "running"
    assert variants(project) == [(1, "live", 1.0)]
    advance(project, versions, now=NOON + A_DAY)
    assert "just now" in (last(project).execution or "")


@pytest.mark.parametrize("cut", ["_wait_observed", "reconcile"])
def test_a_step_that_was_cut_is_finished_and_not_made_again(
    tried: tuple[Project, Registry], cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, versions = tried
    answer(project, NOON, rows=400)
    with monkeypatch.context() as patch:
        patch.setattr(trying, cut, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            advance(project, versions, now=NOON + A_DAY)
    assert "step 2 of 3" not in "".join(told(project, "deployment"))
    assert live(tried, NOON + A_DAY) == 0.3
    assert len([one for one in told(project, "deployment") if "step 2 of 3" in one]) == 1
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]


def test_a_revision_that_only_renews_does_not_begin_the_hold_anew(tried: tuple[Project, Registry]) -> None:
    project, _ = tried
    plan = last(project).plan
    made = [revisions(project, PRODUCTION).get(number) for number in (1, 2)]
    again = msgspec.structs.replace(made[-1], revision=3, created_at=NOON + A_DAY / 2)
    at = held(plan, [*made, again])
    assert at is not None
    assert (at.share, at.since, at.revision, at.next_share, at.until) == (0.1, NOON, 2, 0.3, NOON + A_DAY)
    assert held(plan, made[:1]) is None
    assert held(msgspec.structs.replace(plan, steps=()), made) is None
    assert renew(project, now=NOON).revision == 2
