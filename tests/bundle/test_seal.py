"""What is sealed is what was submitted; whatever is done to it afterwards is found, and named."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.bundle.child import score_once
from passerelle.bundle.keys import public_hex, throwaway_key
from passerelle.bundle.manifest import Provenance, read_manifest
from passerelle.bundle.opening import open_scorer
from passerelle.bundle.profile import profile, read_profile
from passerelle.bundle.seal import Bundle, seal
from passerelle.bundle.verify import Signature, verify
from passerelle.clock import system_clock
from passerelle.errors import BundleError
from passerelle.notebook.submission import read_answers
from passerelle.project.settings import Project, ProjectSection, Task

Make = Callable[..., Bundle]


def refused(bundle: Bundle, **keywords: Any) -> str:
    with pytest.raises(BundleError) as caught:
        verify(bundle.path, digest=bundle.digest, **keywords)
    return str(caught.value)


def resign(folder: Path, key: Ed25519PrivateKey, *, claim: str | None = None) -> None:
    signature = key.sign((folder / "manifest.json").read_bytes()).hex()
    signed = Signature(key=claim or public_hex(key), signature=signature)
    (folder / "signature.json").write_bytes(msgspec.json.encode(signed))


def test_a_sealed_bundle_is_whole_and_trusted(make: Make, key: Ed25519PrivateKey) -> None:
    bundle = make()
    verified = verify(bundle.path, digest=bundle.digest, trusted_keys=[public_hex(key)])
    assert verified.distrust is None
    assert verified.manifest == bundle.manifest
    assert bundle.path.name == bundle.digest == hashlib.sha256((bundle.path / "manifest.json").read_bytes()).hexdigest()
    assert sorted(bundle.manifest.files) == ["golden.msgpack", "model.pkl"]
    assert bundle.manifest.metrics == {"auc": 0.7}
    assert [path.name for path in bundle.path.parent.iterdir()] == [bundle.digest]


def test_the_same_content_is_the_same_folder(make: Make, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    first = make()
    again = seal(
        tmp_path / "submission",
        into=tmp_path / "bundles",
        project=_project(),
        provenance=first.manifest.provenance,
        metrics={"auc": 0.7},
        key=key,
    )
    assert again == first
    other = seal(
        tmp_path / "submission",
        into=tmp_path / "bundles",
        project=_project(),
        provenance=Provenance(run="r2", created_at=first.manifest.provenance.created_at),
        metrics={"auc": 0.7},
        key=key,
    )
    assert other.digest != first.digest
    assert {path.name for path in (tmp_path / "bundles").iterdir()} == {first.digest, other.digest}


def _project() -> Any:
    return Project(project=ProjectSection(name="flights"), task=Task(kind="binary", target="late", key=("id",)))


def test_profile_and_inline_form_are_sealed_too(make: Make, key: Any, rows: Any, tmp_path: Path) -> None:
    first = make()
    (tmp_path / "form" / "deep").mkdir(parents=True)
    (tmp_path / "form" / "deep" / "trees.onnx").write_bytes(b"trees")
    counts = profile(rows(), np.full((30, 1), 0.5), first.manifest.schema)
    bundle = seal(
        tmp_path / "submission",
        into=tmp_path / "bundles",
        project=_project(),
        provenance=first.manifest.provenance,
        metrics={},
        key=key,
        profile=counts,
        inline=tmp_path / "form",
    )
    assert bundle.manifest.files["inline/deep/trees.onnx"] == hashlib.sha256(b"trees").hexdigest()
    assert read_profile(bundle.path / "profile.json") == counts
    assert verify(bundle.path).digest == bundle.digest


def test_private_columns_leave_no_value(make: Make, rows: Any) -> None:
    bundle = make(privacy={"origin": "drop", "hour": "hash"})
    golden = read_answers(bundle.path / "golden.msgpack")
    assert set(golden.inputs["origin"].tolist()) == {None}
    assert set(golden.inputs["hour"].tolist()) == {0}
    assert np.array_equal(golden.inputs["temp"], rows()["temp"], equal_nan=True)
    assert golden.truth == {}
    # And the answers are the model's own on just these rows.
    python = bundle.manifest.environment.python
    answers = score_once(bundle.path, bundle.digest, golden.inputs, rows=30, outputs=1, python=python)
    assert np.array_equal(answers, golden.outputs)
    expected = 1 / (1 + np.exp(2.0 - np.nan_to_num(golden.inputs["temp"]) / 50))
    assert np.abs(golden.outputs[:, 0] - expected).max() < 1e-15
    assert not [path for path in bundle.path.parent.iterdir() if path.name != bundle.digest]


def test_submission_that_is_not_whole_is_refused(make: Make, tmp_path: Path) -> None:
    make()
    (tmp_path / "submission" / "golden.msgpack").unlink()
    with pytest.raises(BundleError, match="is not a whole submission"):
        seal(
            tmp_path / "submission",
            into=tmp_path / "elsewhere",
            project=_project(),
            provenance=Provenance(created_at=system_clock()),
            metrics={},
            key=throwaway_key(),
        )
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["model.pkl", "golden.msgpack"])
def test_changed_byte_and_truncation_are_named(make: Make, name: str) -> None:
    bundle = make()
    path = bundle.path / name
    data = path.read_bytes()
    path.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    assert f"{name} was changed or cut short" in refused(bundle)
    path.write_bytes(data[:-1])
    assert f"{name} was changed or cut short" in refused(bundle)
    path.unlink()
    assert f"{name} is in the manifest and not in the bundle" in refused(bundle)


def test_changed_manifest_is_another_bundle(make: Make, key: Ed25519PrivateKey) -> None:
    bundle = make()
    path = bundle.path / "manifest.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"auc": 0.7', b'"auc": 0.9'))
    assert "is another bundle, or was changed" in refused(bundle)
    with pytest.raises(BundleError, match=r"signature\.json does not belong to manifest\.json"):
        verify(bundle.path, trusted_keys=[public_hex(key)])
    path.write_bytes(data[: len(data) // 2])
    assert "is damaged" in refused(bundle)
    path.unlink()
    assert "is not a bundle" in refused(bundle)


def test_newer_format_asks_for_an_upgrade(make: Make) -> None:
    bundle = make()
    path = bundle.path / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2, "novelty": true'))
    assert "is of format 2 and this Passerelle reads 1: upgrade" in refused(bundle)


def test_unlisted_file_link_and_pipe_are_refused(make: Make, tmp_path: Path) -> None:
    bundle = make()
    extra = bundle.path / "sitecustomize.py"
    extra.write_text("")
    assert "sitecustomize.py is not in the manifest" in refused(bundle)
    extra.unlink()
    model = bundle.path / "model.pkl"
    model.rename(tmp_path / "elsewhere.pkl")
    model.symlink_to(tmp_path / "elsewhere.pkl")
    assert "model.pkl is a link" in refused(bundle)
    model.unlink()
    os.mkfifo(model)
    assert "model.pkl is not a plain file" in refused(bundle)
    model.unlink()
    (tmp_path / "elsewhere.pkl").rename(model)
    (bundle.path / "folder").symlink_to(tmp_path)
    assert "folder is a link" in refused(bundle)


def test_path_out_of_the_bundle_is_refused(make: Make, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    bundle = make()
    outside = tmp_path / "bundles" / "outside"
    outside.write_bytes(b"x")
    manifest, _ = read_manifest(bundle.path)
    files = manifest.files | {"../outside": hashlib.sha256(b"x").hexdigest()}
    (bundle.path / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files)))
    resign(bundle.path, key)
    with pytest.raises(BundleError, match="is in the manifest and not in the bundle"):
        verify(bundle.path)


def test_signatures_wrong_unknown_and_none_are_told_apart(make: Make, key: Ed25519PrivateKey) -> None:
    bundle = make()
    stranger = throwaway_key()
    ours = [public_hex(key)]
    resign(bundle.path, stranger)
    distrust = verify(bundle.path, digest=bundle.digest, trusted_keys=ours).distrust
    assert f"is signed by the key {public_hex(stranger)[:16]}, which is not trusted" in str(distrust)
    resign(bundle.path, stranger, claim=public_hex(key))  # a stranger's signature under our name
    assert "does not belong to manifest.json" in refused(bundle, trusted_keys=ours)
    (bundle.path / "signature.json").write_text("{}")
    assert "is not a signature that can be read" in refused(bundle, trusted_keys=ours)
    (bundle.path / "signature.json").unlink()
    assert "is not signed" in str(verify(bundle.path, digest=bundle.digest, trusted_keys=ours).distrust)


def test_canary_in_an_untrusted_bundle_never_sings(make: Make, tmp_path: Path, key: Ed25519PrivateKey) -> None:
    canary = tmp_path / "canary"

    class Canary:
        def predict(self, X: Any) -> Any:  # noqa: N803
            return np.full(len(X), 0.5)

        def __reduce__(self) -> Any:
            return Path.touch, (canary,)

    bundle = make(Canary())
    canary.unlink(missing_ok=True)
    resign(bundle.path, throwaway_key())

    def opened(**keywords: Any) -> Any:
        return open_scorer(bundle.path, digest=bundle.digest, deadline_s=5, **keywords)

    with pytest.raises(BundleError, match="which is not trusted, so its code is not loaded"):
        opened(trusted_keys=[public_hex(key)])
    with pytest.raises(BundleError, match="which is not trusted, so its code is not loaded"):
        opened(trusted_keys=[], form="process")
    with pytest.raises(BundleError, match="has no inline form"):
        opened(trusted_keys=[], form="inline")
    (bundle.path / "signature.json").unlink()
    with pytest.raises(BundleError, match="is not signed, so its code is not loaded"):
        opened(trusted_keys=[public_hex(key)])
    assert not canary.exists()

    resign(bundle.path, key)  # the same file, trusted, does run: the canary is alive

    async def start(scorer: Any) -> None:
        try:
            await scorer.start()
        finally:
            await scorer.close()

    with pytest.raises(BundleError):
        asyncio.run(start(opened(trusted_keys=[public_hex(key)])))
    assert canary.exists()
