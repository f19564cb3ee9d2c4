"""Events: the rows that a model is asked about, made of delivered tables as the notebook makes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from passerelle.bundle.child import EVENTS, EventRows, EventsRequest, ask_once, frame
from passerelle.bundle.verify import verify
from passerelle.errors import BundleError
from passerelle.schema import Columns, Schema, decode_columns, encode_columns


def event_rows(
    bundle: Path,
    *,
    digest: str,
    trusted_keys: Collection[str],
    tables: Mapping[str, tuple[Schema, Columns]],
    main: str,
    python: str | None = None,
) -> Columns:
    """The event rows of the main table's rows, in their order: Columns of the manifest's schema, by its types.

    Where the notebook submitted an ``events`` function it joins the tables, in a child of the model's environment;
    else the main table's own columns are the events. Raises BundleError if the bundle is not whole or not trusted,
    ScoringError if the function fails or its rows do not fit the schema.
    """
    verified = verify(bundle, digest=digest, trusted_keys=trusted_keys)
    if verified.distrust is not None:
        raise BundleError(verified.distrust)
    packed = {name: (schema, encode_columns(columns)) for name, (schema, columns) in tables.items()}
    request = frame(EVENTS, msgspec.msgpack.encode(EventsRequest(main=main, tables=packed)))
    interpreter = python or verified.manifest.environment.python
    made: EventRows = ask_once(bundle, verified.digest, [request], [EventRows], python=interpreter)[1]
    return decode_columns(made.columns)
