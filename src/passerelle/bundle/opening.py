"""Opening: from a bundle's folder to the scorer that may answer for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from passerelle.bundle.inline import InlineScorer
from passerelle.bundle.manifest import INLINE
from passerelle.bundle.process import ProcessScorer
from passerelle.bundle.scorer import Scorer
from passerelle.bundle.verify import verify
from passerelle.errors import BundleError

Form = Literal["auto", "inline", "process"]


def open_scorer(
    bundle: Path,
    *,
    digest: str,
    trusted_keys: Sequence[str],
    deadline_s: float,
    form: Form = "auto",
    python: str | None = None,
) -> Scorer:
    """A scorer for the bundle that has this digest, not started yet.

    ``auto`` takes the inline form if the bundle has one, for it is code-free, else the process. Raises BundleError if
    the bundle is not whole, has no such form, or carries code that no trusted key has signed: nothing was loaded then.
    """
    verified = verify(bundle, digest=digest, trusted_keys=trusted_keys)
    manifest = verified.manifest
    has_inline = any(name.startswith(f"{INLINE}/") for name in manifest.files)
    if form == "inline" and not has_inline:
        raise BundleError(f"{bundle} has no inline form: its model serves from a process of its own.")
    if has_inline and form != "process":
        return InlineScorer(bundle, manifest)
    if verified.distrust is not None:
        raise BundleError(verified.distrust)
    return ProcessScorer(bundle, manifest, verified.digest, deadline_s=deadline_s, python=python)
