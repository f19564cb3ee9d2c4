"""A recorded period: what cannot have happened is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from passerelle.errors import DataError
from passerelle.loop.recorded import refuse_early
from passerelle.loop.replay import Asked, Told

NOON = datetime(2013, 2, 1, 12, tzinfo=UTC)


def test_an_outcome_that_was_known_before_its_event_is_asked_is_refused() -> None:
    asked = [Asked(at=NOON, id=id_, inputs={}) for id_ in ("a", "b")]
    later = Told(known_at=NOON + timedelta(seconds=1), id="a", value=True)
    refuse_early(asked, [later, Told(known_at=NOON - timedelta(days=9), id="of another period", value=True)])
    with pytest.raises(DataError, match=r"1 outcomes were known before .*the first: b, known at 2013-02-01T12:00:00Z"):
        refuse_early(asked, [later, Told(known_at=NOON, id="b", value=True)])
