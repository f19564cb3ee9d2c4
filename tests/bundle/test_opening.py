"""Which form may answer, and for whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.bundle.keys import public_hex
from passerelle.bundle.opening import open_scorer
from passerelle.bundle.scorer import Scorer
from passerelle.bundle.seal import Bundle, close, draft_folder
from passerelle.errors import BundleError

Make = Callable[..., Bundle]


def with_form(bundle: Bundle, key: Ed25519PrivateKey) -> Bundle:
    """The bundle with an inline form in it; opening looks at no more than that it is there, starting does."""
    with draft_folder(bundle.path.parent) as draft:
        for name in bundle.manifest.files:
            (draft / name).write_bytes((bundle.path / name).read_bytes())
        (draft / "inline").mkdir()
        (draft / "inline" / "form.json").write_text("{}")
        return close(draft, bundle.manifest, into=bundle.path.parent, key=key)


def opened(bundle: Bundle, **keywords: Any) -> Scorer:
    return open_scorer(bundle.path, digest=bundle.digest, deadline_s=5, **keywords)


def test_trusted_code_serves_from_a_process(make: Make, key: Ed25519PrivateKey) -> None:
    assert opened(make(), trusted_keys=[public_hex(key)]).kind == "process"


def test_a_code_free_form_needs_no_trust_and_code_does(make: Make, key: Ed25519PrivateKey) -> None:
    bundle = with_form(make(), key)
    assert opened(bundle, trusted_keys=[]).kind == "inline"
    assert opened(bundle, trusted_keys=[], form="inline").kind == "inline"
    assert opened(bundle, trusted_keys=[public_hex(key)]).kind == "inline"
    assert opened(bundle, trusted_keys=[public_hex(key)], form="process").kind == "process"
    with pytest.raises(BundleError, match="which is not trusted, so its code is not loaded"):
        opened(bundle, trusted_keys=[], form="process")


def test_a_changed_form_is_not_opened(make: Make, key: Ed25519PrivateKey) -> None:
    bundle = with_form(make(), key)
    (bundle.path / "inline" / "form.json").write_text("{ }")
    with pytest.raises(BundleError, match=r"inline/form\.json was changed"):
        opened(bundle, trusted_keys=[public_hex(key)])


def test_another_digest_is_not_opened(make: Make, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    bundle = make()
    with pytest.raises(BundleError, match="is another bundle"):
        open_scorer(bundle.path, digest="0" * 64, trusted_keys=[public_hex(key)], deadline_s=5)
    with pytest.raises(BundleError, match="is not a bundle"):
        open_scorer(tmp_path / "nowhere", digest="0" * 64, trusted_keys=[], deadline_s=5)
