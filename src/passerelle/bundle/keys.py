"""Keys: the Ed25519 pair that signs bundles, and the public halves that a project trusts.

The private key is made on first use in the user's configuration folder, never in a project or an image. A continuous
integration job gets it as a secret: the PEM text in ``PASSERELLE_KEY``.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from passerelle.errors import SettingsError

#: The environment variable that may hold the private key, as PEM text.
KEY_VARIABLE = "PASSERELLE_KEY"
KEY_FILE = "key.pem"
TRUST = "trust"

_PUBLIC_HEX = re.compile(r"[0-9a-f]{64}")


def own_key(config_folder: Path | None = None) -> Ed25519PrivateKey:
    """The user's private key: from ``PASSERELLE_KEY`` if it is set, else from the configuration folder, made if new.

    ``config_folder`` is by default ``$XDG_CONFIG_HOME/passerelle``, or ``~/.config/passerelle``. Raises SettingsError
    if the key cannot be read, is of another kind, or may be read by other users.
    """
    if text := os.environ.get(KEY_VARIABLE):
        return _read(text.encode(), f"the environment variable {KEY_VARIABLE}")
    path = (config_folder or _config_folder()) / KEY_FILE
    if not path.exists():
        _make(path)
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise SettingsError(f"{path} may be read by other users (mode {mode:04o}): run chmod 600 {path}")
    return _read(path.read_bytes(), str(path))


def throwaway_key() -> Ed25519PrivateKey:
    """A key of its own for a tour or a test: kept in memory, and gone with the process."""
    return Ed25519PrivateKey.generate()


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public half of a key, as 64 hexadecimal digits.

    >>> len(public_hex(throwaway_key()))
    64
    """
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def trust(state: Path, key_hex: str) -> Path:
    """Trust the bundles that this public key signs, in the project whose state folder this is: a file that says so."""
    if not _PUBLIC_HEX.fullmatch(key_hex):
        raise SettingsError(f"{key_hex!r} is not a public key: it has 64 hexadecimal digits, in lower case.")
    path = state / TRUST / f"{key_hex[:16]}.pub"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    draft.write_text(f"{key_hex}\n", encoding="ascii")
    draft.replace(path)
    return path


def trusted(state: Path) -> tuple[str, ...]:
    """The public keys that a project trusts. Raises SettingsError if a file among them is not a public key."""
    keys = []
    for path in sorted((state / TRUST).glob("*.pub")):
        text = path.read_text(encoding="ascii", errors="replace").strip()
        if not _PUBLIC_HEX.fullmatch(text):
            raise SettingsError(
                f"{path} is not a public key (64 hexadecimal digits): remove it, and trust the key anew."
            )
        keys.append(text)
    return tuple(keys)


def _config_folder() -> Path:
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".config") / "passerelle"  # relative: not to be obeyed


def _read(pem: bytes, where: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # What it holds is not repeated: it may be a secret all the same.
        raise SettingsError(
            f"{where} does not hold a private key that can be read (PEM, without a password): correct it, "
            "or remove it to have a new key made."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{where} holds a key of another kind: bundles are signed with an Ed25519 key.")
    return key


def _make(path: Path) -> None:
    """Write a new key, whole, for its owner alone; whoever is first among several wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    pem = throwaway_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
