"""Door: who may pass. With tokens, by scope; without, only this machine, asked for by a loopback name.

Behind a cloud's gateway the platform has decided already (``auth: platform``). That is said by the signed deployment
of a container, which tells the door when it has verified it (serving.container); a revision's file on a disk, which
anybody who may write there could change, never opens a door.
"""

from __future__ import annotations

import ipaddress
import logging
from datetime import UTC, datetime
from pathlib import Path

from passerelle.deployment.spec import Auth
from passerelle.errors import ServingError
from passerelle.serving.tokens import Needed, allows, read_tokens

_log = logging.getLogger(__name__)


class RefusedError(ServingError):
    """This request is not allowed: send the header Authorization: Bearer TOKEN with a token for it."""


class UnknownCallerError(ServingError):
    """This request is not allowed: send the header Authorization: Bearer TOKEN with a token for it."""


class WrongHostError(ServingError):
    """This endpoint has no tokens, and answers only to localhost or 127.0.0.1 in the Host header."""


def is_loopback(host: str) -> bool:
    """Is this the name or address of this machine alone?

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.com")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Door:
    """Decides on each request. ``refresh`` is called now and then, so that new and revoked tokens count at once.

    Open only if there never was a tokens file and ``host``, where the endpoint listens, is loopback; or if the platform
    in front decides (``auth``), for all but what an administrator may do.
    """

    def __init__(self, path: Path, *, host: str, auth: Auth = "tokens") -> None:
        self._path = path
        self._platform = auth == "platform"
        self._open = is_loopback(host) and not path.exists()
        self._tokens = read_tokens(path)
        self._stamp = _stamp(path)
        if not self._open and not self._tokens and not self._platform:
            raise ServingError(
                f"{host} can be reached from other machines and there is no token: make one with passerelle token, "
                "or serve on 127.0.0.1."
            )

    def refresh(self) -> None:
        """Read the tokens again if their file has changed; a damaged file changes nothing."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._tokens = read_tokens(self._path)
        except ServingError as error:
            _log.warning("%s", error)
        self._stamp = stamp
        self._open = self._open and stamp is None

    def check(self, needed: Needed, *, authorization: str | None, host: str | None) -> None:
        """Raise unless the request may pass. 401 and 403 do not say what was wrong with a token that was sent."""
        if needed == "nothing" or (self._platform and needed != "admin"):
            return
        if self._open:
            name = (host or "").rpartition(":")[0] if _has_port(host or "") else (host or "")
            if not is_loopback(name):
                raise WrongHostError
            return
        if not authorization:
            raise UnknownCallerError
        kind, _, secret = authorization.partition(" ")
        if kind.lower() != "bearer":
            raise RefusedError
        if not allows(self._tokens, secret.strip(), needed, datetime.now(UTC)):
            self.refresh()  # it may be newer than the last look: one ``stat``, and the file is read only if it changed
            if not allows(self._tokens, secret.strip(), needed, datetime.now(UTC)):
                raise RefusedError


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino
