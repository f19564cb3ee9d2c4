"""Target: where requests go. Deny by default: only this machine, unless the address is said a second time."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from passerelle.errors import PasserelleError
from passerelle.serving.door import is_loopback

PATH = "/predict"


class TargetError(PasserelleError):
    """Nothing is sent to this address: name the endpoint as http://HOST:PORT, and confirm it if it is not here."""

    exit_code = 2


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An address that may be sent to."""

    host: str
    port: int
    path: str
    tls: bool

    @property
    def url(self) -> str:
        """As a URL."""
        return f"{'https' if self.tls else 'http'}://{self.address}{self.path}"

    @property
    def address(self) -> str:
        """As host:port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def find_target(url: str, *, confirmed: str | None = None, token: bool = False) -> Target:
    """Read an address. Without a path it is the endpoint's /predict.

    Any but this machine's must be ``confirmed`` by its host or host:port: a load test that reaches somebody else's
    production by a slip of the fingers cannot be taken back. Raises TargetError if it is not, if it is no address, or
    if a ``token`` would cross a network unencrypted.

    >>> find_target("http://127.0.0.1:8700").url
    'http://127.0.0.1:8700/predict'
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise TargetError(f"{url!r} is no address ({error}): give http://HOST:PORT.") from error
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise TargetError(f"{url!r} is no address of an endpoint: give http://HOST:PORT or https://HOST.")
    tls = parts.scheme == "https"
    path = parts.path if parts.path not in ("", "/") else PATH
    target = Target(host=host, port=port or (443 if tls else 80), path=path, tls=tls)
    if is_loopback(host):
        return target
    if confirmed not in (host, target.address):
        given = "" if confirmed is None else f" (you gave {confirmed})"
        raise TargetError(
            f"{target.address} is not this machine, and nothing was sent: if whoever runs it agrees, say so with "
            f"--yes-to {target.address}{given}."
        )
    if token and not tls:
        raise TargetError(f"the token would go to {target.address} for all to read: use https.")
    return target
