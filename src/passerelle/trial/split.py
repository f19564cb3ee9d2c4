"""Split: the difference of two versions of which each unit saw one, as a value per event.

With A_i = 1 where the challenger answered, its probability p_i, and b_i the mean loss of the events before (of both):

    Z_i = (loss_i - b_i) (A_i / p_i - (1 - A_i) / (1 - p_i))

has, given the past, exactly the mean loss(challenger) - loss(champion), and keeps it when the shares change on the way,
where a difference of two means does not (Simpson). What is subtracted only makes it less noisy. Tested as in betting.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from passerelle.trial.betting import paired
from passerelle.trial.course import Course


def pseudo_outcomes(losses: ArrayLike, arms: ArrayLike, *, share: ArrayLike, start: float) -> NDArray[np.float64]:
    """Z of each event, in their order; ``start`` stands for one loss before the first.

    ``arms`` is 1 where the challenger answered, ``share`` its probability then (one number, or one for each event).

    >>> pseudo_outcomes([0.5, 1.0], [1, 0], share=0.5, start=0.5).tolist()
    [0.0, -1.0]
    """
    loss = np.asarray(losses, dtype=np.float64)
    arm = np.asarray(arms, dtype=np.float64)
    count = np.arange(1, len(loss) + 1)
    before = (start + np.concatenate([[0.0], np.cumsum(loss)[:-1]]) if len(loss) else loss) / count
    chance = np.broadcast_to(np.asarray(share, dtype=np.float64), loss.shape)
    with np.errstate(divide="ignore"):  # of the arm that an event did not have
        found: NDArray[np.float64] = (loss - before) * np.where(arm > 0, 1 / chance, -1 / (1 - chance))
    return found


def split(
    losses: ArrayLike,
    arms: ArrayLike,
    *,
    share: float,
    margin: float,
    alpha: float,
    bounds: tuple[float, float],
    planned_n: int,
    rollback_above: float = 0.0,
) -> Course:
    """Test a split, in the order of its events. ``bounds`` are those of one loss; ``arms`` is 1 for the challenger.

    Raises ValueError for a loss outside of the bounds.

    >>> course = split([0.0, 1.0] * 2000, [1, 0] * 2000, share=0.5, margin=0.1, alpha=0.05, bounds=(0, 1),
    ...                planned_n=500)
    >>> course.promoted_at is not None, course.rolled_back_at
    (True, None)
    """
    low, high = bounds
    loss = np.asarray(losses, dtype=np.float64)
    if not ((loss >= low) & (loss <= high)).all():  # NaN is not
        raise ValueError(f"a loss lies outside of [{low}, {high}]: the bounds must hold every one")
    values = pseudo_outcomes(loss, arms, share=share, start=(low + high) / 2)
    reach = (high - low) / min(share, 1 - share)
    return paired(
        values,
        margin=margin,
        alpha=alpha,
        bounds=(-reach, reach),
        planned_n=planned_n,
        rollback_above=rollback_above,
    )
