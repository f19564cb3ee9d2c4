"""Verify: is a bundle whole and unchanged, and may its code be loaded? Nothing in it is executed or unpickled."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from passerelle.bundle.manifest import MANIFEST, SIGNATURE, Manifest, read_manifest
from passerelle.decoding import prepared
from passerelle.errors import BundleError


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """signature.json: who says that the manifest is theirs. The bytes of manifest.json are what is signed."""

    #: The Ed25519 public key, in hex.
    key: str
    #: The signature, in hex.
    signature: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is whole: each file is there, unchanged, and no other."""

    manifest: Manifest
    digest: str
    #: Why its code may not be loaded, in a sentence that says what to do; None if it may.
    distrust: str | None


def verify(bundle: Path, *, digest: str | None = None, trusted_keys: Collection[str] = ()) -> Verified:
    """Check a bundle's manifest against ``digest`` (None: any), each file against the manifest, and the signature.

    Raises BundleError, naming the file, if anything is missing, changed, unlisted or a link, or if the signature does
    not belong to the manifest. No signature, or one by a key that is not trusted, is not an error: code-free forms
    may still serve, and ``distrust`` says why code may not.
    """
    manifest, found = read_manifest(bundle)
    if digest is not None and found != digest:
        raise BundleError(
            f"{bundle / MANIFEST} has the digest {found[:12]}, and {digest[:12]} is wanted: it is another bundle, or "
            "was changed. Fetch the bundle again."
        )
    listed = manifest.files.keys() | {MANIFEST, SIGNATURE}
    present = set(_files(bundle))
    if unlisted := sorted(present - listed):
        raise BundleError(f"{bundle / unlisted[0]} is not in the manifest: remove it, or fetch the bundle again.")
    for name, wanted in manifest.files.items():
        if name not in present:
            raise BundleError(f"{bundle / name} is in the manifest and not in the bundle: fetch the bundle again.")
        if (actual := sha256(bundle / name)) != wanted:
            raise BundleError(
                f"{bundle / name} was changed or cut short: its sha256 is {actual[:12]}… and the manifest says "
                f"{wanted[:12]}…. Fetch the bundle again."
            )
    return Verified(manifest=manifest, digest=found, distrust=_distrust(bundle, trusted_keys))


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(bundle: Path) -> Iterator[str]:
    """Every file's path in the bundle. Raises BundleError for anything that is neither a file nor a folder."""
    for folder, folders, files in os.walk(bundle):
        for name in (*folders, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise BundleError(
                    f"{path} is {'a link' if stat.S_ISLNK(mode) else 'not a plain file'}, and a bundle has plain files "
                    "only: fetch the bundle again."
                )
        for name in files:
            yield Path(folder, name).relative_to(bundle).as_posix()


def _distrust(bundle: Path, trusted_keys: Collection[str]) -> str | None:
    path = bundle / SIGNATURE
    try:
        signed = msgspec.json.decode(path.read_bytes(), type=prepared(Signature))
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.key))
        key.verify(bytes.fromhex(signed.signature), (bundle / MANIFEST).read_bytes())
    except FileNotFoundError:
        return f"{bundle} is not signed, so its code is not loaded: seal it with a key that this project trusts."
    except (msgspec.DecodeError, ValueError) as error:
        raise BundleError(f"{path} is not a signature that can be read ({error}): fetch the bundle again.") from error
    except InvalidSignature as error:
        raise BundleError(
            f"{path} does not belong to {MANIFEST}: one of them was changed after the bundle was sealed. Fetch the "
            "bundle again, and find out who changed it."
        ) from error
    if signed.key not in trusted_keys:
        return (
            f"{bundle} is signed by the key {signed.key[:16]}, which is not trusted, so its code is not loaded: if you "
            f"know whose key it is, write its 64 digits to .passerelle/trust/{signed.key[:16]}.pub and deploy again."
        )
    return None
