"""Guard: who may read the pages, and who may act. Reading is decided by the endpoint's own door.

Reading is open on a loopback address as long as no token was made; else it needs a token that may read. Acting always
needs an admin token. A browser keeps its token in a cookie that no script and no other site's page can use.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from passerelle.clock import system_clock
from passerelle.serving.door import Door, RefusedError
from passerelle.serving.tokens import Scope, allows, read_tokens, tokens_path

COOKIE = "passerelle_session"
#: How long a session lasts: a working day.
COOKIE_S = 8 * 3600

#: Sent with every answer. Styles may stand in the page because plotly writes its own there; scripts may not.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ForeignPageError(RefusedError):
    """This was sent by a page of another site: nothing was done. Open the dashboard itself and try there."""


class NotAdminError(RefusedError):
    """This needs a token with the scope admin: passerelle token NAME --scope admin makes one."""


class Guard:
    """Decides on each request. Raises ServingError where other machines can reach ``host`` and there is no token."""

    def __init__(self, state: Path, *, host: str) -> None:
        self._path = tokens_path(state)
        self._door = Door(self._path, host=host)
        #: Session → the token that was given, and when it ends.
        self._sessions: dict[str, tuple[str, datetime]] = {}

    def begin(self, secret: str) -> str:
        """A session for whoever gave this token; it ends with this process, at the latest."""
        now = system_clock()
        self._sessions = {id_: one for id_, one in self._sessions.items() if now < one[1]}
        session = secrets.token_urlsafe(32)
        self._sessions[session] = (secret, now + timedelta(seconds=COOKIE_S))
        return session

    def end(self, cookie: str | None) -> None:
        """Forget a session."""
        self._sessions.pop(cookie or "", None)

    def secret_of(self, cookie: str | None) -> str | None:
        """The token of a session; None if there is no such session."""
        secret, until = self._sessions.get(cookie or "", (None, None))
        return secret if until is not None and system_clock() < until else None

    def check_read(self, headers: Mapping[str, str], cookie: str | None) -> None:
        """Raise unless the pages may be read; new and revoked tokens count at once."""
        self._door.refresh()
        secret = self.secret_of(cookie)
        bearer = headers.get("authorization") or (f"Bearer {secret}" if secret else None)
        self._door.check("read", authorization=bearer, host=headers.get("host"))

    def may(self, secret: str | None, scope: Scope) -> bool:
        """May the bearer of this token do it? On a loopback address too, and if no token was ever made: then nobody."""
        return bool(secret) and allows(read_tokens(self._path), secret or "", scope, system_clock())

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise unless a form was sent by a page of this very dashboard."""
        origin, host = headers.get("origin"), headers.get("host")
        if not origin or not host or urlsplit(origin).netloc != host:
            raise ForeignPageError

    def check_act(self, headers: Mapping[str, str], cookie: str | None) -> str:
        """Raise unless an action may be done; whom the token that allows it was made for."""
        self.check_origin(headers)
        kind, _, bearer = (headers.get("authorization") or "").partition(" ")
        secret = bearer if kind.lower() == "bearer" else self.secret_of(cookie)
        for token in read_tokens(self._path) if secret else ():
            if allows((token,), secret or "", "admin", system_clock()):
                return token.name
        raise NotAdminError
