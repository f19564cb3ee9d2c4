"""What every Target must do: run by each target's tests on a place that can be looked into, and meddled with.

``target_checks()`` are the checks; each takes a TargetCase with nothing in its place yet. For pytest::

    @pytest.mark.parametrize("check", target_checks(), ids=lambda check: check.__name__)
    def test_target(check, case):  # case: a fixture that makes a TargetCase
        check(case)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import msgspec

from passerelle.deployment.applying import Applied, apply_deployment
from passerelle.deployment.spec import Deployment, Variant
from passerelle.deployment.target import DriftError, Observed, Placed, Plan, PlanError, Step, Target, TargetError


class TargetCase(msgspec.Struct, frozen=True, kw_only=True):
    """A target on a place where nothing is yet; what is None is needed by a check that is left out by name."""

    #: A new client of the place, as a new process makes it; its settings say drift = "refuse".
    open: Callable[[], Target]
    #: Revision n (1, 2, 3 ...), each of another version.
    deployment: Callable[[int], Deployment]
    #: All that is in the place, not by the target's own ``observe``: names with what matters of their settings.
    there: Callable[[], Sequence[str]]
    environment: str = "production"
    #: As ``open``, with drift = "restore".
    restoring: Callable[[], Target] | None = None
    #: Change something by hand of what was applied.
    meddle: Callable[[], object] | None = None
    #: Have the place undo the next change by itself, and say nothing.
    roll_back: Callable[[], object] | None = None
    #: Have the next change fail.
    fail: Callable[[], object] | None = None
    #: Put an endpoint there that bears our name and is not ours.
    clash: Callable[[], object] | None = None
    #: Have what says where it is, besides the settings, lead elsewhere: other credentials, another current context.
    #: Needed of a target that is Placed only.
    move: Callable[[], object] | None = None
    #: Rule → a deployment that it refuses.
    refused: dict[str, Deployment] = {}
    #: What a person does before everything is removed.
    release: Callable[[], object] = lambda: None


Check = Callable[[TargetCase], None]
E = TypeVar("E", bound=Exception)
T = TypeVar("T")


class DeathError(Exception):
    """The process that applied is dead, as was ordered."""


def sample_deployment(revision: int, *, project: str = "trips", **changes: Any) -> Deployment:
    """A revision that lets a version of the same number answer.

    >>> sample_deployment(3).live[0].version
    3
    """
    variant = Variant(version=revision, bundle=f"bundles/{revision}", digest=f"{revision:064x}")
    made = Deployment(
        project=project,
        environment="production",
        revision=revision,
        variants=(variant,),
        salt="salt",
        created_at=datetime(2013, 2, 1, tzinfo=UTC),
        reason=f"version {revision}",
    )
    return msgspec.structs.replace(made, **changes)


def _dead() -> NoReturn:
    raise DeathError


class _Dying:
    """See dying."""

    def __init__(self, target: Target, at: int, *, after: bool, die: Callable[[], object]) -> None:
        self._target, self._at, self._after, self._die = target, at, after, die
        self._steps = 0

    def refuse(self, deployment: Deployment) -> None:
        """See Target."""
        self._target.refuse(deployment)

    def observe(self, environment: str) -> Observed:
        """See Target."""
        return self._target.observe(environment)

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        """See Target."""
        return self._target.plan(deployment, observed)

    def apply(self, step: Step) -> None:
        """See Target."""
        self._steps += 1
        if self._steps == self._at and not self._after:
            self._die()
        self._target.apply(step)
        if self._steps == self._at and self._after:
            self._die()


def dying(target: Target, at: int, *, after: bool, die: Callable[[], object] = _dead) -> Target:
    """A target whose process dies before, or after, step ``at`` (1, 2 ...): by DeathError, or by what ``die`` does."""
    return _Dying(target, at, after=after, die=die)


def _expect(found: object, due: object, what: str) -> None:
    # Not an assert statement: the checks must hold under python -O, too.
    if found != due:
        raise AssertionError(f"{what}: {due!r} was due, and it is {found!r}")


def _refused(kind: type[E], act: Callable[..., object], *arguments: object) -> E:
    try:
        act(*arguments)
    except kind as error:
        return error
    raise AssertionError(f"a {kind.__name__} was due, and none was raised")


def _given(hook: T | None, name: str) -> T:
    if hook is None:
        raise AssertionError(f"the case does not say {name}: give it, or leave this check out by its name")
    return hook


def _apply(case: TargetCase, revision: int | None, target: Target | None = None) -> Applied:
    deployment = None if revision is None else case.deployment(revision)
    if revision is None:
        case.release()
    return apply_deployment(target or case.open(), deployment, case.environment)


def _clear(case: TargetCase) -> None:
    _apply(case, None)
    _expect(list(case.there()), [], "what is left")


def _deaths(case: TargetCase, before: Sequence[int], revision: int | None) -> None:
    """Die after each step of an apply, apply again: the same is there as if nobody had died.

    To die before a step is to die after the one before it: between two nothing is done.
    """
    for number in before:
        _apply(case, number)
    made = len(_apply(case, revision).plan.steps)
    due = sorted(case.there())
    _clear(case)
    for step in range(1, made + 1):
        for number in before:
            _apply(case, number)
        _refused(DeathError, _apply, case, revision, dying(case.open(), step, after=True))
        _apply(case, revision)
        _expect(sorted(case.there()), due, f"what is there after a death after step {step}")
        _clear(case)


def check_apply_is_idempotent(case: TargetCase) -> None:
    """The first apply serves; the second has no step and changes nothing."""
    _expect(case.open().observe(case.environment).state, "absent", "the state before")
    first = _apply(case, 1)
    _expect((first.observed.state, first.observed.revision), ("serving", 1), "state and revision")
    before = sorted(case.there())
    _expect(_apply(case, 1).plan.steps, (), "the steps of the second apply")
    _expect(sorted(case.there()), before, "what is there")


def check_plan_changes_nothing(case: TargetCase) -> None:
    """Observing and planning, of a first revision, of a next and of a removal, change nothing."""
    for revision in (1, 2, None):
        deployment = None if revision is None else case.deployment(revision)
        if revision is None:
            case.release()
        before = sorted(case.there())
        target = case.open()
        plan = target.plan(deployment, target.observe(case.environment))
        _expect((plan.revision, bool(plan.steps)), (revision, True), "the plan's revision; has it steps")
        _expect(sorted(case.there()), before, "what is there")
        if revision == 1:
            _apply(case, 1)


def check_step_taken_twice(case: TargetCase) -> None:
    """Taking each step twice does no more than taking it once."""
    _apply(case, 1)
    _apply(case, 2)
    due = sorted(case.there())
    _clear(case)
    for revision in (1, 2):
        target = case.open()
        for step in target.plan(case.deployment(revision), target.observe(case.environment)).steps:
            target.apply(step)
            case.open().apply(step)
    _expect(sorted(case.there()), due, "what is there")


def check_resumes_creation(case: TargetCase) -> None:
    """The first apply, killed after any step, is taken up by the next."""
    _deaths(case, (), 1)


def check_resumes_change(case: TargetCase) -> None:
    """The change to a next revision, killed anywhere, is taken up by the next apply."""
    _deaths(case, (1,), 2)


def check_resumes_removal(case: TargetCase) -> None:
    """A removal, killed anywhere, is taken up by the next."""
    _deaths(case, (1,), None)


def check_half_made_is_adopted_or_removed(case: TargetCase) -> None:
    """What an apply of revision 2 left half done is not in revision 3's way, and nothing of it stays unowned."""
    _apply(case, 1)
    made = len(case.open().plan(case.deployment(2), case.open().observe(case.environment)).steps)
    _clear(case)
    for number in range(1, made + 1):
        _apply(case, 1)
        target = dying(case.open(), number, after=True)
        _refused(DeathError, _apply, case, 2, target)
        found = _apply(case, 3).observed
        _expect((found.state, found.revision), ("serving", 3), f"state and revision after a death after step {number}")
        _apply(case, 4)
        _clear(case)


def check_revision_change_keeps_answering(case: TargetCase) -> None:
    """Between any two steps to the next revision, one of the two answers; what is there does not grow for ever."""
    _apply(case, 1)
    answers: list[int | None] = []
    target = case.open()
    apply_deployment(
        target,
        case.deployment(2),
        case.environment,
        lambda *_: answers.append(case.open().observe(case.environment).revision),
    )
    _expect(set(answers) <= {1, 2}, due=True, what=f"do 1 or 2 answer all the time ({answers})")
    _expect(case.open().observe(case.environment).revision, 2, "the revision that answers")
    count = len(case.there())
    for revision in (3, 4):
        _apply(case, revision)
        _expect(len(case.there()), count, f"how many things there are at revision {revision}")


def check_nothing_is_left(case: TargetCase) -> None:
    """After a removal nothing is there; a removal of nothing has no steps."""
    _apply(case, 1)
    _apply(case, 2)
    _clear(case)
    _expect(case.open().observe(case.environment).state, "absent", "the state")
    _expect(_apply(case, None).plan.steps, (), "the steps of a second removal")


def check_change_by_hand(case: TargetCase) -> None:
    """What was changed by hand is refused, or put back, as the settings say."""
    meddle, restoring = _given(case.meddle, "meddle"), _given(case.restoring, "restoring")
    _apply(case, 1)
    due = sorted(case.there())
    meddle()
    changed = sorted(case.there())
    _expect(changed != due, due=True, what="did the hand change anything")
    for revision in (1, 2):
        _refused(DriftError, _apply, case, revision)
        _expect(sorted(case.there()), changed, "what is there after the refusal")
    _apply(case, 1, restoring())
    _expect(sorted(case.there()), due, "what is there after it was put back")


def check_silent_roll_back(case: TargetCase) -> None:
    """A change that the place undid by itself is a DriftError that names the revision; the next apply may succeed."""
    order = _given(case.roll_back, "roll_back")
    _apply(case, 1)
    order()
    error = _refused(DriftError, _apply, case, 2)
    _expect("revision 2" in str(error), due=True, what=f"is revision 2 named in {str(error)!r}")
    _expect(_apply(case, 2).observed.revision, 2, "the revision after the next apply")


def check_failed_change(case: TargetCase) -> None:
    """A change, and a creation, that fail are TargetErrors; what answered goes on; the next apply succeeds."""
    order = _given(case.fail, "fail")
    for revision, answers in ((1, None), (2, 1)):
        order()
        _refused(TargetError, _apply, case, revision)
        _expect(case.open().observe(case.environment).revision, answers, f"what answers when {revision} failed")
        found = _apply(case, revision).observed
        _expect((found.state, found.revision), ("serving", revision), "state and revision after the next apply")
    _clear(case)


def check_name_clash(case: TargetCase) -> None:
    """An endpoint of our name that is not ours is refused by its name, and stays as it is."""
    clash = _given(case.clash, "clash")
    clash()
    theirs = set(case.there())
    error = _refused(TargetError, _apply, case, 1)
    name = case.deployment(1).project
    _expect(name in str(error), due=True, what=f"is {name} named in {str(error)!r}")
    _expect(theirs <= set(case.there()), due=True, what="is it still there")


def check_place(case: TargetCase) -> None:
    """A target that says a place says the same by each client, before and after an apply, and another elsewhere."""

    def place() -> dict[str, str] | None:
        target = case.open()
        return target.place() if isinstance(target, Placed) else None

    before = place()
    if before is None:
        return
    move = _given(case.move, "move")
    _expect(bool(before) and all(before.values()), due=True, what=f"does {before} say a place")
    _expect(list(case.there()), [], "what is there after the question")
    _apply(case, 1)
    _expect(place(), before, "the place after an apply")
    move()
    elsewhere = place() or {}
    _expect(elsewhere.keys(), before.keys(), "what is said of the place elsewhere")
    _expect(elsewhere != before, due=True, what=f"is the place another elsewhere ({elsewhere})")


def check_rules(case: TargetCase) -> None:
    """What cannot be expressed is refused before anything is changed, by the rule's name."""
    before = sorted(case.there())
    for rule, deployment in _given(case.refused or None, "refused").items():
        error = _refused(PlanError, apply_deployment, case.open(), deployment, case.environment)
        _expect((error.rule, rule in str(error)), (rule, True), "the rule; is it in the message")
    _expect(sorted(case.there()), before, "what is there")


_CHECKS: tuple[Check, ...] = (
    check_apply_is_idempotent,
    check_plan_changes_nothing,
    check_step_taken_twice,
    check_resumes_creation,
    check_resumes_change,
    check_resumes_removal,
    check_half_made_is_adopted_or_removed,
    check_revision_change_keeps_answering,
    check_nothing_is_left,
    check_change_by_hand,
    check_silent_roll_back,
    check_failed_change,
    check_name_clash,
    check_place,
    check_rules,
)


def target_checks(*, without: Sequence[str] = ()) -> tuple[Check, ...]:
    """The checks, but for those that a target cannot be put through, by name: ``check_silent_roll_back``.

    Raises ValueError for a name that no check has.
    """
    names = [check.__name__ for check in _CHECKS]
    if unknown := sorted(set(without) - set(names)):
        raise ValueError(f"there is no check {', '.join(unknown)}: the checks are {', '.join(names)}.")
    return tuple(check for check in _CHECKS if check.__name__ not in without)
