"""The example on docs/bundle.md runs as it stands."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.bundle.keys import public_hex
from passerelle.bundle.seal import Bundle


def test_the_page_runs(make: Callable[..., Bundle], key: Ed25519PrivateKey) -> None:
    page = Path(__file__).parents[2] / "docs" / "bundle.md"
    globs = {"bundle": make(), "trusted_keys": [public_hex(key)]}
    found = doctest.testfile(str(page), module_relative=False, globs=globs)
    assert found.attempted == 4
    assert found.failed == 0
