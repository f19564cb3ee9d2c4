"""Split: the difference of two versions of which each unit saw one, as a value per event.

With A_i = 1 where the challenger answered, its probability p_i, and b_i the mean loss of the events before (of both):

    Z_i = (loss_i - b_i) (A_i / p_i - (1 - A_i) / (1 - p_i))

has, given the past, exactly the mean loss(challenger) - loss(champion), and keeps it when the shares change on the way,
where a difference of two means does not (Simpson). What is subtracted only makes it less noisy. Tested as in betting.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from passerelle.trial.betting import course
from passerelle.trial.course import Course, check, numbers


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
    share: ArrayLike,
    margin: float,
    alpha: float,
    bounds: tuple[float, float],
    planned_n: int,
    rollback_above: float = 0.0,
) -> Course:
    """Test a split, in the order of its events: the losses of both arms, each event having seen one of the two.

    Args:
        losses: Of shape (events,), in units of the loss.
        arms: Of shape (events,): 1 where the challenger answered, 0 where the champion did.
        share: The probability, when it was assigned, that the challenger would answer: a number, or one for each event
            where traffic is ramped up (or down). It must not depend on what the event itself turned out to be.
        margin: The worsening that is accepted, in units of the loss.
        alpha: As in ``paired``: the probability of each wrong verdict, at most, however often one looks.
        bounds: The smallest and the largest that one loss can be: known beforehand.
        planned_n: The events, of both arms, that the trial is planned for.
        rollback_above: What the challenger must be proven worse than to be rolled back.

    A pseudo-outcome is bounded by (high - low) / min(share, 1 - share), with the share of its own event, which is known
    before its loss: each bet keeps to the bounds of its own event, and a ramp costs no more than its early steps.
    Raises ValueError for a loss outside of the bounds or not finite, an arm other than 0 and 1, lengths that differ, a
    share outside of (0, 1), and arguments that cannot be.

    Source: inverse-probability weights (Horvitz and Thompson 1952) with a predictable centre; the test is ``paired``'s.

    >>> course = split([0.0, 1.0] * 2000, [1, 0] * 2000, share=0.5, margin=0.1, alpha=0.05, bounds=(0, 1),
    ...                planned_n=500)
    >>> course.promoted_at is not None, course.rolled_back_at
    (True, None)
    >>> ramp = [0.1] * 1000 + [0.5] * 3000
    >>> split([0.0, 1.0] * 2000, [1, 0] * 2000, share=ramp, margin=0.1, alpha=0.05, bounds=(0, 1),
    ...       planned_n=500).promoted_at is not None
    True
    """
    loss, arm = numbers("losses", losses), numbers("arms", arms)
    chance = np.asarray(share, dtype=np.float64)
    low, high = bounds
    reach = high - low
    if len(loss) != len(arm) or chance.shape not in {(), loss.shape}:
        raise ValueError(f"losses, arms and share differ in shape: {loss.shape}, {arm.shape}, {chance.shape}")
    if not ((arm == 0) | (arm == 1)).all():
        raise ValueError("an arm is neither 0 (the champion) nor 1 (the challenger)")
    if not ((chance > 0) & (chance < 1)).all():
        raise ValueError("a share is not between 0 and 1: events that could have gone one way only compare nothing")
    check(margin=margin, alpha=alpha, bounds=(-reach, reach), planned_n=planned_n, rollback_above=rollback_above)
    if not ((loss >= low) & (loss <= high)).all():
        raise ValueError(f"a loss lies outside of [{low}, {high}]: the bounds must hold every one")
    values = pseudo_outcomes(loss, arm, share=chance, start=(low + high) / 2)
    widest = reach / np.minimum(chance, 1 - chance)
    return course(
        values,
        bounds=(-widest, widest),
        nulls=(-reach, reach),
        margin=margin,
        alpha=alpha,
        planned_n=planned_n,
        rollback_above=rollback_above,
    )
