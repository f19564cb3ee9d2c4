import asyncio
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from making import START, outcome, prediction

from passerelle.errors import LedgerError
from passerelle.ledger.compaction import compact
from passerelle.ledger.records import Record
from passerelle.ledger.segments import Writer, record
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.views import Totals, ask, open_views, totals

NOW = datetime(2013, 3, 1, tzinfo=UTC)

PREDICTIONS: list[Record] = [
    prediction("a", at_s=1, output=(0.1,)),
    prediction("a", at_s=2, output=(0.9,)),
    prediction("a", at_s=2, output=(0.8,)),
    prediction("a", at_s=3, role="shadow", version=2),
    prediction("b", at_s=4, status="failed", output=None, error="why"),
    prediction("c", at_s=5, status="timed_out", output=None),
    prediction("d", at_s=6),
]
OUTCOMES: list[Record] = [
    outcome("a", value=True, at_s=60),
    outcome("a", value=False, at_s=90),
    outcome("a", "early", at_s=30),
    outcome("b", 1.5, at_s=60),
    outcome("nobody", "x", at_s=60),
    outcome("nobody", "y", at_s=61),
]


@pytest.fixture(params=["segments", "tables", "both"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The records above, wherever they are kept: the answers are the same."""
    folder = tmp_path / "version=9 à 100 %" / "what?"  # which DuckDB would take for a column and a pattern
    storage = LocalStorage(folder)
    asyncio.run(record(storage, PREDICTIONS[:2], slot="worker-0"))
    if request.param == "both":
        compact(folder, now=NOW)
    asyncio.run(record(storage, [*PREDICTIONS[2:], *OUTCOMES], slot="worker-0"))
    if request.param == "tables":
        compact(folder, now=NOW)
    shutil.copytree(folder, folder.with_name("what!"))
    return folder


def test_totals(folder: Path) -> None:
    uncompacted = totals(folder).uncompacted
    assert uncompacted in {0, 11, 13}
    assert totals(folder) == Totals(
        predictions=5,
        live=4,
        shadow=1,
        failed=1,
        timed_out=1,
        outcomes=6,
        orphans=2,
        repeats=2,
        uncompacted=uncompacted,
        damaged=0,
    )


def test_the_first_record_of_an_id_wins_for_live_and_for_each_shadow(folder: Path) -> None:
    rows = ask(folder, "SELECT id, role, version, output FROM predictions ORDER BY received_at").rows
    assert rows == [
        ("a", "live", 1, [0.1]),
        ("a", "shadow", 2, [0.25]),
        ("b", "live", 1, None),
        ("c", "live", 1, None),
        ("d", "live", 1, [0.25]),
    ]
    assert ask(folder, "FROM repeats").rows == [("a", "live", 1, 2)]
    assert ask(folder, "SELECT count(*) FROM all_predictions").rows == [(7,)]


def test_a_retry_that_another_version_answered_is_a_repeat(folder: Path) -> None:
    again = msgspec.structs.replace(PREDICTIONS[0], version=9, received_at=NOW)
    asyncio.run(record(LocalStorage(folder), [again], slot="worker-1"))
    assert ask(folder, "SELECT version FROM predictions WHERE id = 'a' AND role = 'live'").rows == [(1,)]
    assert ask(folder, "FROM repeats").rows == [("a", "live", 1, 3)]
    assert totals(folder).repeats == 3


def test_the_outcome_in_force_is_the_one_known_last(folder: Path) -> None:
    assert ask(folder, "SELECT id, value FROM truths ORDER BY id").rows == [
        ("a", "false"),
        ("b", "1.5"),
        ("nobody", '"y"'),
    ]
    assert ask(folder, "SELECT count(*) FROM outcomes").rows == [(6,)]


def test_of_outcomes_known_at_once_the_one_received_last_is_in_force(tmp_path: Path) -> None:
    known = outcome("a", 1, at_s=60)
    later = [type(known)(id="a", value=value, known_at=known.known_at, received_at=NOW) for value in (2, 3)]
    asyncio.run(record(LocalStorage(tmp_path), [*later, known], slot="worker-0"))
    assert ask(tmp_path, "SELECT value FROM truths").rows == [("3",)]


def test_judged_are_live_predictions_with_their_truth(folder: Path) -> None:
    answer = ask(folder, "SELECT id, output, truth, known_at FROM judged ORDER BY id")
    assert answer.columns == ("id", "output", "truth", "known_at")
    assert answer.rows == [
        ("a", [0.1], "false", START.replace(minute=1, second=30)),
        ("b", None, "1.5", START.replace(minute=1)),
    ]


def test_orphans_are_kept_and_counted(folder: Path) -> None:
    assert Counter(ask(folder, "SELECT id FROM orphans").rows) == {("nobody",): 2}


def test_an_open_segment_is_seen_and_its_unfinished_frame_is_not(tmp_path: Path) -> None:
    async def run() -> None:
        writer = Writer(LocalStorage(tmp_path), slot="worker-0", mode="durable")
        await writer.append([prediction("a")])
        [path] = (tmp_path / "segments").glob("*.open")
        with path.open("ab") as file:
            file.write(b"\x99\0\0\0 the rest is still being written")
        assert totals(tmp_path).predictions == 1
        assert totals(tmp_path).uncompacted == 1
        await writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("moment", ["names", "read"])
def test_what_is_compacted_while_we_look_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The worst moments: when the segments have been listed, and when one has been read."""
    asyncio.run(record(LocalStorage(tmp_path), PREDICTIONS, slot="worker-0"))
    act = getattr(LocalStorage, moment)

    def then_compact(self: LocalStorage, *arguments: object) -> object:
        answer = act(self, *arguments)
        monkeypatch.undo()
        assert compact(tmp_path, now=NOW).segments == 1
        return answer

    monkeypatch.setattr(LocalStorage, moment, then_compact)
    assert totals(tmp_path).predictions == 5
    assert totals(tmp_path).repeats == 2


def test_an_empty_ledger_has_all_views(tmp_path: Path) -> None:
    assert totals(tmp_path / "none") == Totals(
        predictions=0,
        live=0,
        shadow=0,
        failed=0,
        timed_out=0,
        outcomes=0,
        orphans=0,
        repeats=0,
        uncompacted=0,
        damaged=0,
    )
    with open_views(tmp_path / "none") as views:
        for view in ("predictions", "repeats", "outcomes", "truths", "judged", "orphans", "all_predictions"):
            assert views.execute(f"FROM {view}").fetchall() == []
    assert not (tmp_path / "none").exists()


def test_parameters_and_moments(folder: Path) -> None:
    answer = ask(folder, "SELECT id, received_at FROM predictions WHERE received_at > ?", [START.replace(second=5)])
    assert answer.rows == [("d", START.replace(second=6))]
    assert answer.rows[0][1].utcoffset().total_seconds() == 0


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT nothing FROM predictions", "did not understand"),
        ("SELECT * FROM read_text('/etc/hostname')", "disabled by configuration"),
        ("COPY predictions TO 'stolen.csv'", "answers one SELECT"),
        ("SET enable_external_access = true", "answers one SELECT"),
        ("SELECT 1; SELECT 2", "answers one SELECT"),
        ("", "answers one SELECT"),
        ("SELEC 1", "did not understand"),
    ],
)
def test_a_question_that_is_none_is_refused(folder: Path, sql: str, reason: str) -> None:
    with pytest.raises(LedgerError, match=reason):
        ask(folder, sql)


def test_a_torn_table_is_said_in_our_words(tmp_path: Path) -> None:
    asyncio.run(record(LocalStorage(tmp_path), PREDICTIONS, slot="worker-0"))
    compact(tmp_path, now=NOW)
    [path] = (tmp_path / "predictions").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LedgerError, match=r"cannot be read: .*parquet"):
        totals(tmp_path)
