"""Conformance: what every implementation of a seam must do. An adapter's tests run these on it, and nothing is assumed.

```python
@pytest.mark.parametrize(("name", "check"), list(scorer_checks()))
def test_scorer(name, check):
    asyncio.run(check(ScorerCase(make=..., make_broken=..., columns=..., expected=...)))
```
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.parity import differences
from passerelle.bundle.scorer import Scorer
from passerelle.errors import BundleError, ScoringError
from passerelle.schema import TOLERANCE, Columns, count, take


@dataclass(frozen=True, kw_only=True)
class ScorerCase:
    """A scorer to check, and what it must answer."""

    #: Makes the scorer, not started; called once or more by each check.
    make: Callable[[], Scorer]
    #: Makes one whose start fails (a damaged bundle, a golden row that it cannot reproduce).
    make_broken: Callable[[], Scorer]
    #: At least eight events, with answers that are not all alike, and ...
    columns: Columns
    #: ... the answers: float64 of shape (rows, outputs).
    expected: NDArray[Any]
    #: Events that the model must fail on (a non-finite answer, a refused value); None if there are none.
    failing: Columns | None = None
    #: The largest difference that is allowed (bundle.parity.differences).
    tolerance: float = TOLERANCE


ScorerCheck = Callable[[ScorerCase], Awaitable[None]]


def scorer_checks() -> Iterator[tuple[str, ScorerCheck]]:
    """Yield (name, check); a check is awaited with a ScorerCase and raises AssertionError, saying what is wrong.

    >>> [name for name, check in scorer_checks()][:2]
    ['is_a_scorer', 'answers_every_row']
    """
    for check in _SCORER_CHECKS:
        yield check.__name__.removeprefix("_"), check


def _expect(holds: object, wrong: str) -> None:
    # Not an assert statement: the checks must hold under python -O, too.
    if not holds:
        raise AssertionError(wrong)


def _expect_equal(case: ScorerCase, said: NDArray[Any], expected: NDArray[Any], when: str) -> None:
    _expect(isinstance(said, np.ndarray), f"{when}: score answers {type(said).__name__}, and not an array")
    _expect(said.dtype == np.float64, f"{when}: the answers are {said.dtype}, and not float64")
    _expect(said.shape == expected.shape, f"{when}: the answers have shape {said.shape}, not {expected.shape}")
    _expect(np.isfinite(said).all(), f"{when}: an answer is not finite")
    worst = float(differences(said, expected).max(initial=0.0))
    _expect(worst <= case.tolerance, f"{when}: the answers differ by {worst:.3g}")


async def _is_a_scorer(case: ScorerCase) -> None:
    scorer = case.make()
    _expect(isinstance(scorer, Scorer), f"{type(scorer).__name__} lacks a method of Scorer")
    _expect(isinstance(scorer.kind, str) and scorer.kind, "kind is not a name")
    await scorer.close()


async def _answers_every_row(case: ScorerCase) -> None:
    await _with(case, lambda scorer: _scores(case, scorer, slice(None), "all rows"))


async def _keeps_the_order(case: ScorerCase) -> None:
    order = np.random.default_rng(7).permutation(count(case.columns))
    await _with(case, lambda scorer: _scores(case, scorer, order, "shuffled rows"))


async def _answers_rows_alike_alone_and_together(case: ScorerCase) -> None:
    async def alone(scorer: Scorer) -> None:
        for row in range(min(count(case.columns), 20)):
            await _scores(case, scorer, slice(row, row + 1), f"row {row} alone")
        for start in range(0, count(case.columns), 7):
            await _scores(case, scorer, slice(start, start + 7), f"rows {start} to {start + 6}")

    await _with(case, alone)


async def _answers_repeated_rows(case: ScorerCase) -> None:
    twice = np.repeat(np.arange(count(case.columns)), 2)
    await _with(case, lambda scorer: _scores(case, scorer, twice, "each row twice"))


async def _leaves_the_rows_as_they_are(case: ScorerCase) -> None:
    given = {name: array.copy() for name, array in case.columns.items()}

    async def score(scorer: Scorer) -> None:
        await scorer.score(given)
        for name, array in case.columns.items():
            same = np.array_equal(given[name], array, equal_nan=array.dtype.kind in "fM")
            _expect(same, f"score changed the events' field {name!r}")

    await _with(case, score)


async def _answers_an_empty_batch(case: ScorerCase) -> None:
    async def score(scorer: Scorer) -> None:
        said = await scorer.score(take(case.columns, slice(0, 0)))
        _expect_equal(case, said, case.expected[:0], "no rows")

    await _with(case, score)


async def _fails_and_goes_on(case: ScorerCase) -> None:
    """A batch that the model fails on raises ScoringError, and the next one is answered."""

    async def score(scorer: Scorer) -> None:
        if case.failing is not None:
            await _expect_raises(lambda: scorer.score(case.failing or {}), (ScoringError,), "a failing batch")
        await _scores(case, scorer, slice(None), "after a failed batch")

    await _with(case, score)


async def _starts_twice(case: ScorerCase) -> None:
    async def again(scorer: Scorer) -> None:
        await scorer.start()
        await _scores(case, scorer, slice(None), "after a second start")

    await _with(case, again)


async def _closes_twice(case: ScorerCase) -> None:
    scorer = case.make()
    await scorer.start()
    await scorer.close()
    await scorer.close()


async def _closes_without_a_start(case: ScorerCase) -> None:
    await case.make().close()


async def _refuses_when_closed(case: ScorerCase) -> None:
    scorer = case.make()
    await scorer.start()
    await scorer.close()
    await _expect_raises(lambda: scorer.score(case.columns), (ScoringError,), "score after close")


async def _fails_to_start_and_closes(case: ScorerCase) -> None:
    scorer = case.make_broken()
    await _expect_raises(scorer.start, (BundleError, ScoringError), "start of a broken bundle")
    await _expect_raises(lambda: scorer.score(case.columns), (ScoringError,), "score after a failed start")
    await scorer.close()
    await scorer.close()


async def _two_are_independent(case: ScorerCase) -> None:
    first, second = case.make(), case.make()
    try:
        await first.start()
        await second.start()
        await first.close()
        await _scores(case, second, slice(None), "after another of the same bundle was closed")
    finally:
        await first.close()
        await second.close()


async def _with(case: ScorerCase, use: Callable[[Scorer], Awaitable[None]]) -> None:
    scorer = case.make()
    try:
        await scorer.start()
        await use(scorer)
    finally:
        await scorer.close()


async def _scores(case: ScorerCase, scorer: Scorer, index: Any, when: str) -> None:
    said = await scorer.score(take(case.columns, index))
    _expect_equal(case, said, case.expected[index], when)


async def _expect_raises(act: Callable[[], Awaitable[object]], kinds: tuple[type[Exception], ...], when: str) -> None:
    wanted = " or ".join(kind.__name__ for kind in kinds)
    try:
        await act()
    except kinds:
        return
    except Exception as error:
        raise AssertionError(f"{when}: raises {type(error).__name__}, and not {wanted}: {error}") from error
    raise AssertionError(f"{when}: does not raise {wanted}")


_SCORER_CHECKS: tuple[ScorerCheck, ...] = (
    _is_a_scorer,
    _answers_every_row,
    _keeps_the_order,
    _answers_rows_alike_alone_and_together,
    _answers_repeated_rows,
    _leaves_the_rows_as_they_are,
    _answers_an_empty_batch,
    _fails_and_goes_on,
    _starts_twice,
    _closes_twice,
    _closes_without_a_start,
    _refuses_when_closed,
    _fails_to_start_and_closes,
    _two_are_independent,
)
