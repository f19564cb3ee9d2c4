"""What a verdict measured beside the difference, a line each, for `passerelle trial status`."""

from test_guarding import guarded, with_tally
from test_trial_judging import BAD, block
from trial_days import plan_of

from passerelle.trial.counts import Arm, Tally
from passerelle.trial.judging import judge
from passerelle.trial.words import measured


def test_each_measure_is_a_line() -> None:
    plan = guarded(min_days=9, cap=0.9)
    tally = Tally(events=100, worse=1, better=1)
    arms = Arm(events=100, labelled=80, capped=4), Arm(events=100, labelled=80, capped=8)
    blocks = [
        block(day, BAD[day % 4], guards=((tally,),), arms=arms, observations=100, squares=0.01 * day)
        for day in range(9)
    ]
    lines = measured(plan, judge(plan, blocks))
    assert [line.partition(":")[0] for line in lines] == [
        "autocorrelation of the days' means",
        "design effect",
        "outcomes in time",
        "losses cut at the cap",
        "guardrail, errors +0.00 % (-1.84 % to +1.65 %, margin +2.00 %)",
    ]
    assert lines[2:4] == [
        "outcomes in time: 80.0 % (version 1), 80.0 % (version 2)",
        "losses cut at the cap: 5.0 % (version 1), 10.0 % (version 2)",
    ]


def test_before_there_is_anything_there_is_no_line() -> None:
    assert measured(plan_of(), judge(plan_of(), [block(0, 0.01)])) == []
    assert measured(guarded(), judge(guarded(), [with_tally(0, 0.0)])) == ["guardrail, errors: no event yet"]
