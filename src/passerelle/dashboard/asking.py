"""Asking: what the planner's form asks, from an address. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from passerelle.trial.needs import Mode

_MODES: tuple[Mode, ...] = ("shadow", "split")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A trial that is thought of; None: as the project says."""

    #: A share of the champion's loss.
    margin: float | None = None
    mode: Mode | None = None
    share: float | None = None
    #: What cannot be, each in a sentence; then nothing is computed.
    wrong: tuple[str, ...] = ()
    #: The texts that were given, to stand in the form again.
    given: dict[str, str] = {}

    @property
    def asked(self) -> bool:
        """Was anything asked?"""
        return bool(self.given)


def question_of(asked: Mapping[str, str]) -> Question:
    """What an address asks: ``?margin=0.05&mode=split&share=0.2``.

    >>> question_of({"margin": "0.05", "mode": "split", "segments": "carrier"}).margin
    0.05
    >>> question_of({"margin": "-1"}).wrong
    ('A margin is a share of the loss, more than 0: 0.05 accepts 5 % more. This was: -1.',)
    """
    given = {name: text for name in ("margin", "mode", "share") if (text := asked.get(name, "").strip())}
    wrong = []
    margin, share = _number(given.get("margin")), _number(given.get("share"))
    if "margin" in given and not (margin is not None and margin > 0):
        said = given["margin"]
        wrong.append(f"A margin is a share of the loss, more than 0: 0.05 accepts 5 % more. This was: {said}.")
    if "share" in given and not (share is not None and 0 < share < 1):
        wrong.append(f"A share of the units is more than 0 and less than 1. This was: {given['share']}.")
    mode = next((one for one in _MODES if one == given.get("mode")), None)
    if "mode" in given and mode is None:
        wrong.append(f"A trial is in shadow or a split. This was: {given['mode']}.")
    return Question(margin=margin, mode=mode, share=share, wrong=tuple(wrong), given=given)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
