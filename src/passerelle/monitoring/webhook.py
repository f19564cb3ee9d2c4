"""Webhook: a message as JSON to an http(s) address of the user's, by a sender that goes nowhere else.

The host's name is resolved once; if any of its addresses is private or of this machine the message is refused; then the
connection is made to the first that answers of the addresses that were looked at, so that no second answer of the name
server can lead elsewhere. No proxy, no redirect, a deadline, and no more of the answer is read than its status.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from passerelle.monitoring.messages import ChannelError, Message

#: For the connection, and for each wait on it.
TIMEOUT_S = 10.0
#: Of a message's text; what is longer is cut.
MOST_CHARACTERS = 4000
#: Carries the message's id: the same whenever it is sent again.
ID_HEADER = "Idempotency-Key"

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Webhook:
    """A plain http(s) address. Raises ChannelError if it is none."""

    def __init__(self, address: str, *, private_addresses: bool = False) -> None:
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError as error:
            raise ChannelError("the address of this channel is no http(s) address: correct it.") from error
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            raise ChannelError("the address of this channel is no http(s) address: correct it.")
        self._secure = parts.scheme.lower() == "https"
        self._host = parts.hostname
        self._port = port or (443 if self._secure else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._login = (unquote(parts.username or ""), unquote(parts.password or "")) if parts.username else None
        self._private_addresses = private_addresses

    def send(self, message: Message) -> None:
        """POST the message; see Channel. Accepted is what is answered with 2xx."""
        text = f"{message.title}\n{message.body}"[:MOST_CHARACTERS]
        # "text" is what Slack, Mattermost and their like show; the rest is for a program.
        value = {"text": text, "id": message.id, "title": message.title, "body": message.body[:MOST_CHARACTERS]}
        headers = {"Content-Type": "application/json", ID_HEADER: _plain(message.id), "User-Agent": "passerelle"}
        if self._login:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(self._login).encode()).decode()
        connection = self._connection()
        try:
            connection.request("POST", self._target, msgspec.json.encode(value), headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ChannelError(f"{self._host} did not answer ({type(error).__name__}): is it up?") from error
        finally:
            connection.close()
        if 300 <= status < 400:  # noqa: PLR2004  (redirects)
            raise ChannelError(f"{self._host} answered {status}, a redirect, which is not followed: name its goal.")
        if not 200 <= status < 300:  # noqa: PLR2004  (success)
            raise ChannelError(f"{self._host} answered {status} and did not accept the message.")

    def _connection(self) -> http.client.HTTPConnection:
        """A connection that leads to an address that was looked at."""
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ChannelError(f"{self._host} has no address: is the name right?") from error
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        hidden = [address for address in addresses if not is_public(address)]
        if hidden and not self._private_addresses:
            raise ChannelError(
                f"{self._host} is {hidden[0]}, an address that is private or of this machine: nothing was sent. "
                "If that is meant, say private_addresses = true in [alerts]."
            )
        return _Pinned(self._host, self._port, addresses, secure=self._secure)


class _Pinned(http.client.HTTPConnection):
    """HTTP to an address that was looked at before, under the name that its certificate must have."""

    def __init__(self, host: str, port: int, addresses: list[str], *, secure: bool) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S)
        self._addresses = addresses
        self._secure = secure
        if secure:
            self.default_port = 443  # leaves the port out of the Host header

    def connect(self) -> None:
        """Connect to the first address that answers; check the certificate against the name."""
        plain = self._connected()
        self.sock: Any = plain
        if self._secure:
            try:
                self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
            except BaseException:
                plain.close()
                raise

    def _connected(self) -> socket.socket:
        for address in self._addresses[:-1]:
            try:
                return socket.create_connection((address, self.port), TIMEOUT_S)
            except OSError:
                continue  # such as ::1, where only 127.0.0.1 listens
        return socket.create_connection((self._addresses[-1], self.port), TIMEOUT_S)


def is_public(address: str) -> bool:
    """Is it an address of the open internet, also where it hides in one of another kind?

    >>> [is_public(one) for one in ("8.8.8.8", "127.0.0.1", "::ffff:10.0.0.1", "169.254.169.254", "64:ff9b::7f00:1")]
    [True, False, False, False, False]
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inside = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in _NAT64:
            inside = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


def _plain(text: str) -> str:
    """As a header may hold it."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "_" for letter in text)
