"""Seal: what a notebook submitted, and how it was judged, become a bundle: digests, a signature, a folder of its own.

Where the project hashes or drops an input column, golden rows do not keep its values. A stand-in takes their place
(null where the column may be null, else an unseen value), and the model answers these rows anew, in a clean child of
its environment. Whole rows, private values with them, are compared with the notebook's answers once the bundle is
sealed (loop.train); a bundle that does not reproduce them is removed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from passerelle.bundle.child import score_once
from passerelle.bundle.keys import public_hex
from passerelle.bundle.manifest import (
    GOLDEN,
    INLINE,
    MANIFEST,
    MODEL,
    PROFILE,
    SIGNATURE,
    Environment,
    Manifest,
    Provenance,
)
from passerelle.bundle.profile import Profile, encode_profile
from passerelle.bundle.verify import Signature, sha256, verify
from passerelle.decoding import prepared
from passerelle.errors import BundleError
from passerelle.notebook.submission import Answers, Submission, read_answers
from passerelle.project.settings import Privacy, Project
from passerelle.schema import Column, as_array, count

SUBMISSION = "submission.json"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """The sealed model: its folder, its digest, and what its manifest says."""

    path: Path
    digest: str
    manifest: Manifest


def seal(
    submission: Path,
    *,
    into: Path,
    project: Project,
    provenance: Provenance,
    metrics: Mapping[str, float],
    key: Ed25519PrivateKey,
    profile: Profile | None = None,
    inline: Path | None = None,
) -> Bundle:
    """Seal a submission's folder as ``into/<digest>``; the same content, sealed again, is the same folder.

    ``profile`` are the reference counts, ``inline`` is the folder of a compiled form that proved equal. Raises
    BundleError if the submission is not whole, ScoringError if the model cannot answer its golden rows without their
    private values.
    """
    try:
        submitted = msgspec.json.decode((submission / SUBMISSION).read_bytes(), type=prepared(Submission))
        golden = read_answers(submission / GOLDEN)
    except (FileNotFoundError, msgspec.DecodeError, KeyError) as error:
        raise BundleError(f"{submission} is not a whole submission ({error}): train again.") from error
    manifest = Manifest(
        project=project.name,
        task=project.task.kind,
        target=project.task.target,
        classes=submitted.classes,
        schema=submitted.schema,
        constants=submitted.constants,
        provenance=provenance,
        environment=Environment(
            python=submitted.python,
            python_version=submitted.python_version,
            platform=submitted.platform,
            packages=submitted.packages,
        ),
        metrics=dict(metrics),
        files={},
    )
    with draft_folder(into) as draft:
        shutil.copyfile(submission / MODEL, draft / MODEL)
        write_golden(draft, manifest, golden, privacy=project.privacy)
        if profile is not None:
            (draft / PROFILE).write_bytes(encode_profile(profile))
        if inline is not None:
            shutil.copytree(inline, draft / INLINE, symlinks=True)  # a link is then refused, not followed
        return close(draft, manifest, into=into, key=key)


@contextlib.contextmanager
def draft_folder(into: Path) -> Iterator[Path]:
    """A folder to make a bundle in, beside where it will stand; removed if it was not closed."""
    into.mkdir(parents=True, exist_ok=True)
    draft = into / f".draft-{secrets.token_hex(8)}"
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_golden(draft: Path, manifest: Manifest, golden: Answers, *, privacy: Mapping[str, Privacy]) -> None:
    """Write the golden rows, without truth and without the values of columns that the project hashes or drops."""
    private = [column for column in manifest.schema.columns if privacy.get(column.name, "keep") != "keep"]
    inputs = {name: golden.inputs[name] for name in manifest.schema.names}
    outputs = golden.outputs
    if private:
        inputs |= {column.name: stand_ins(column, count(inputs)) for column in private}
        _, digest = write_manifest(draft, manifest)
        outputs = score_once(
            draft, digest, inputs, rows=count(inputs), outputs=manifest.outputs, python=manifest.environment.python
        )
    Answers(inputs=inputs, outputs=outputs).write(draft / GOLDEN)


def stand_ins(column: Column, rows: int) -> NDArray[Any]:
    """Values that stand in for a private column's: null where it may be null, else one that gives nothing away.

    >>> stand_ins(Column(name="name", kind="string"), 2).tolist()
    ['unseen', 'unseen']
    """
    value: Any = None
    if not column.nullable:
        floor = max(0.0, -math.inf if column.minimum is None else column.minimum)
        number = min(floor, math.inf if column.maximum is None else column.maximum)
        value = {
            "integer": math.ceil(number),
            "number": number,
            "boolean": False,
            "string": column.allowed[0] if column.allowed else "unseen",
            "timestamp": datetime(1970, 1, 1, tzinfo=UTC),
            "date": date(1970, 1, 1),
        }[column.kind]
    return as_array([value] * rows, column)


def write_manifest(draft: Path, manifest: Manifest) -> tuple[Manifest, str]:
    """Write the manifest, with the digests of all files that are in the folder; what was written, and its digest."""
    files = {
        path.relative_to(draft).as_posix(): sha256(path)
        for path in sorted(draft.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, SIGNATURE)
    }
    manifest = msgspec.structs.replace(manifest, files=files)
    data = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1)
    (draft / MANIFEST).write_bytes(data)
    return manifest, hashlib.sha256(data).hexdigest()


def close(draft: Path, manifest: Manifest, *, into: Path, key: Ed25519PrivateKey) -> Bundle:
    """Write manifest and signature, bring all of it to the disk, and give the folder its name, the digest."""
    manifest, digest = write_manifest(draft, manifest)
    signature = key.sign((draft / MANIFEST).read_bytes()).hex()
    signed = msgspec.json.encode(Signature(key=public_hex(key), signature=signature))
    (draft / SIGNATURE).write_bytes(signed)
    verify(draft, digest=digest)
    path = into / digest
    if path.exists():
        # Sealed before: the folder stays (somebody may be serving it), if it still is what it was.
        verify(path, digest=digest)
        if (path / SIGNATURE).read_bytes() != signed:
            _to_disk(draft / SIGNATURE)
            (draft / SIGNATURE).replace(path / SIGNATURE)
    else:
        for one in (*draft.rglob("*"), draft):
            _to_disk(one)
        draft.rename(path)
        _to_disk(into)
    return Bundle(path=path, digest=digest, manifest=manifest)


def _to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
