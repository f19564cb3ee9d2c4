"""Tokens: who may do what. A route names the scope that it needs; a token carries scopes; admin carries all.

The file holds no token, only its sha256: whoever reads it cannot call the endpoint with it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import ServingError

FILE = "tokens.json"

Scope = Literal["predict", "label", "read", "admin"]
Needed = Literal["predict", "label", "read", "admin", "nothing"]
"""What a route asks for; "nothing" has to be said."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token."""

    #: For whom or what it was made.
    name: str
    scopes: tuple[Scope, ...]
    #: Of the token, in hexadecimal.
    sha256: str
    created_at: datetime
    #: It is refused from then on; None: never.
    expires_at: datetime | None = None


def tokens_path(state: Path) -> Path:
    """Where a project's tokens are kept."""
    return state / FILE


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file; none if it is not there. Raises ServingError if it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=prepared(tuple[Token, ...]))
    except FileNotFoundError:
        return ()
    except msgspec.DecodeError as error:
        raise ServingError(f"{path} is damaged ({error}): restore it, or remove it and make new tokens.") from error


def make_token(
    path: Path, *, name: str, scopes: tuple[Scope, ...], created_at: datetime, expires_at: datetime | None = None
) -> str:
    """Make a token of 256 random bits, add its sha256 to the file (mode 0600), and return it: it is shown this once.

    Raises ServingError if there is one of this name: revoke it first, so that nobody's is replaced by accident.
    """
    if any(one.name == name for one in read_tokens(path)):
        raise ServingError(f"there is a token {name!r} already: revoke it first, or choose another name.")
    secret = f"psr_{secrets.token_urlsafe(32)}"
    token = Token(name=name, scopes=scopes, sha256=_sha256(secret), created_at=created_at, expires_at=expires_at)
    _write(path, (*read_tokens(path), token))
    return secret


def revoke_token(path: Path, name: str) -> None:
    """Forget a token. Raises ServingError if there is none of this name."""
    tokens = read_tokens(path)
    if name not in (names := [token.name for token in tokens]):
        raise ServingError(f"there is no token {name!r}; there are {names}.")
    _write(path, tuple(token for token in tokens if token.name != name))


def allows(tokens: tuple[Token, ...], secret: str, scope: Scope, now: datetime) -> bool:
    """May the bearer of this secret do it? Each token is compared in constant time, and all of them are compared."""
    given = _sha256(secret)
    allowed = False
    for token in tokens:
        same = hmac.compare_digest(token.sha256, given)
        current = token.expires_at is None or now < token.expires_at
        allowed |= same and current and (scope in token.scopes or "admin" in token.scopes)
    return allowed


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(tokens), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
