"""What a run is given to learn from, and the files that hold it.

Written by the pipeline before the run (handout.write_handout), read in the notebook's kernel by training_data:

    handout/handout.json        Handout
    handout/<table>.msgpack     Columns of the training rows (main: with the target, holdout left out) or of a table
    handout/holdout.msgpack     Columns of the main table's held-out rows, without the target; there only once the
                                last cell has run, for the kernel to answer

The held-out rows with their target lie in a file of their own, outside the run's folder.

This module is read in the kernel, which may have neither pyarrow nor deltalake: nothing of weight is imported here.
"""

from __future__ import annotations

import msgspec

from passerelle.project.settings import TaskKind
from passerelle.schema import Schema

#: The folder, in a run's folder.
HANDOUT = "handout"
#: The Handout, as JSON.
HANDOUT_FILE = "handout.json"
#: The held-out rows.
HOLDOUT = "holdout.msgpack"


class Handout(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is given to learn from."""

    project: str
    task: TaskKind
    target: str
    #: For binary: the class whose probability is predicted.
    positive: str | int | bool
    key: tuple[str, ...]
    time: str | None
    main: str
    #: Table → the fields of its rows, in the order of the file; the main table's include the target.
    tables: dict[str, Schema]
    #: Table → its version in the snapshot.
    snapshot: dict[str, int]
    #: What was left out, for people: "7,132 rows from 2013-01-25T00:00:00Z held out", "12 rows without an outcome yet".
    notes: tuple[str, ...] = ()


def table_file(table: str) -> str:
    """The name of the file that holds a table's rows.

    >>> table_file("flights")
    'flights.msgpack'
    """
    return f"{table}.msgpack"
