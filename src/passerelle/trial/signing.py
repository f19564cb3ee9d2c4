"""Signing: when a trial has ended, what it said is signed by the project's own key, as bundles are.

What is signed is the canonical JSON of a statement: plan, verdict, what was done, the ledger's versions, the sha256 of
the block table as it was kept, the version of Passerelle. It is kept as it was signed; a later Passerelle, whose plans
and verdicts have more fields, verifies the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from passerelle.bundle.keys import public_hex
from passerelle.decoding import prepared
from passerelle.errors import StateError
from passerelle.state.timeline import Event, events, record_once
from passerelle.trial import trials
from passerelle.trial.verdict import Record, Signed

FORMAT = 1
_KIND = "signature"

State = Literal["valid", "changed", "untrusted", "missing", "older", "running"]


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an auditor takes away."""

    format: int
    #: See Signed; with the block table, a row for each day, as it was kept.
    statement: dict[str, Any]
    blocks: list[dict[str, Any]]
    #: Empty for a trial that was never signed.
    key: str
    signature: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of a signature."""

    state: State
    sentence: str

    @property
    def good(self) -> bool:
        """Is there nothing to object? A trial that runs, or ended before records were signed, has no signature."""
        return self.state in ("valid", "older", "running")


def sign_ended(engine: sa.Engine, environment: str, key: Ed25519PrivateKey, *, now: datetime) -> None:
    """Sign each trial that has ended and is not signed yet; once: a signature that is lost is not made again."""
    for record in trials.history(engine, environment):
        if not _is_due(record):
            continue
        if events(engine, kind=_KIND, subject=record.plan.id, limit=1):
            continue
        statement = statement_of(record, trials.table(engine, record.plan.id))
        signed = Signed(statement=statement, key=public_hex(key), signature=key.sign(canonical(statement)).hex())
        trials.seal(engine, record.plan.id, signed)
        sentence = f"the record of trial {record.plan.id} is signed by the key {signed.key[:16]}"
        record_once(engine, Event(at=now, kind=_KIND, subject=record.plan.id, sentence=sentence))


def is_any_due(engine: sa.Engine, environment: str) -> bool:
    """Has a trial ended that is not signed yet?"""
    return any(_is_due(record) for record in trials.history(engine, environment))


def statement_of(record: Record, table: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is signed of a trial with this block table: values of JSON."""
    said: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    del said["signed"], said["status"]
    return {"format": FORMAT, "blocks": len(table), "table": digest_of(table), **said}


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks: the same value, the same bytes.

    >>> canonical({"b": 1.5, "a": [1, 2]})
    b'{"a":[1,2],"b":1.5}'
    """
    return msgspec.json.encode(value, order="sorted")


def digest_of(table: Sequence[dict[str, Any]]) -> str:
    """The sha256 of a block table, in hex."""
    return hashlib.sha256(canonical(list(table))).hexdigest()


def check_record(record: Record, table: Sequence[dict[str, Any]], trusted_keys: Collection[str]) -> Checked:
    """Is the trial that the state keeps what was signed?"""
    if record.signed is None:
        if record.status != "ended":
            return Checked(state="running", sentence="It has not ended: it is signed when it has.")
        if record.software is None:
            return Checked(state="older", sentence="It ended before Passerelle signed such records: no signature.")
        return Checked(
            state="missing",
            sentence="Its signature is missing: the next tick signs it if it ended just now, else somebody removed it.",
        )
    found = _check(record.signed, table, trusted_keys)
    if found.state != "valid":
        return found
    now = statement_of(record, table)
    differ = sorted(name for name, value in record.signed.statement.items() if not _agrees(value, now.get(name)))
    if differ:
        return Checked(state="changed", sentence=f"What the state keeps is not what was signed: {', '.join(differ)}.")
    return found


def check_file(file: File, data: bytes, trusted_keys: Collection[str]) -> Checked:
    """Is a file what was signed? ``data`` is the whole of it."""
    if not file.signature:
        return Checked(state="missing", sentence="It has no signature: nobody says that it is theirs.")
    signed = Signed(statement=file.statement, key=file.key, signature=file.signature)
    found = _check(signed, file.blocks, trusted_keys)
    if found.state == "valid" and _written(file) != data:
        return Checked(state="changed", sentence="A byte of the file was changed after it was written, if no value.")
    return found


def file_of(record: Record, table: Sequence[dict[str, Any]]) -> bytes:
    """A trial's record for an auditor, as JSON. Raises StateError if it has not ended."""
    if record.status != "ended":
        raise StateError(f"trial {record.plan.id} has not ended: its record is written when it has.")
    signed = record.signed or Signed(statement=statement_of(record, table), key="", signature="")
    file = File(
        format=FORMAT,
        statement=signed.statement,
        blocks=list(table),
        key=signed.key,
        signature=signed.signature,
    )
    return _written(file)


def read_file(data: bytes) -> tuple[File, Record]:
    """What a file of ``file_of`` holds, and the trial that it tells of. Raises StateError for anything else."""
    try:
        file = msgspec.json.decode(data, type=prepared(File))
        if file.format != FORMAT:
            raise StateError(f"this record has format {file.format}, and this Passerelle reads {FORMAT}: upgrade it.")
        record = msgspec.convert({**file.statement, "status": "ended"}, prepared(Record))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"this is no record of a trial ({error}): passerelle trial record writes one.") from error
    return file, record


def _written(file: File) -> bytes:
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def _is_due(record: Record) -> bool:
    return record.status == "ended" and record.software is not None and record.signed is None


def _check(signed: Signed, table: Sequence[dict[str, Any]], trusted_keys: Collection[str]) -> Checked:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.key))
        key.verify(bytes.fromhex(signed.signature), canonical(signed.statement))
    except (InvalidSignature, ValueError):
        return Checked(
            state="changed",
            sentence="The signature does not belong to it: the record, key or signature was changed afterwards.",
        )
    if signed.statement.get("table") != digest_of(table):
        return Checked(state="changed", sentence="The block table is not the one that was signed.")
    if signed.key not in trusted_keys:
        return Checked(
            state="untrusted",
            sentence=f"It is signed by the key {signed.key[:16]}, which this project does not trust: if you know whose "
            f"it is, write its 64 digits to .passerelle/trust/{signed.key[:16]}.pub.",
        )
    by = f"Passerelle {signed.statement.get('software')}"
    return Checked(
        state="valid",
        sentence=f"Signed by the key {signed.key[:16]}, which this project trusts, and unchanged ({by}).",
    )


def _agrees(signed: Any, now: Any) -> bool:
    """Is a value what was signed? What later versions added to it does not matter."""
    if isinstance(signed, dict) and isinstance(now, dict):
        return all(name in now and _agrees(value, now[name]) for name, value in signed.items())
    if isinstance(signed, list) and isinstance(now, list):
        return len(signed) == len(now) and all(map(_agrees, signed, now))
    return type(signed) is type(now) and bool(signed == now)
