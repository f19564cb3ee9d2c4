"""A real SMTP server on this machine that keeps what it is sent."""

from __future__ import annotations

import base64
import email
import email.policy
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from threading import Thread


class Mailbox:
    """What arrived; ``status`` is what it answers to a message, 250 to accept."""

    def __init__(self) -> None:
        #: The receivers of the envelope, and the message.
        self.mails: list[tuple[list[str], EmailMessage]] = []
        #: Who logged in: name and password, as they came.
        self.logins: list[str] = []
        self.status = 250
        self.port = 0


class _Session(socketserver.StreamRequestHandler):
    """One client's."""

    server: _Server

    def handle(self) -> None:
        self._say("220 here ESMTP")
        self._receivers: list[str] = []
        while line := self.rfile.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            if verb.upper() == "QUIT":
                self._say("221 bye")
                return
            self._say(self._answer(verb.upper(), rest))

    def _answer(self, verb: str, rest: str) -> str:
        box = self.server.box
        if verb == "EHLO":
            return "250-here\r\n250-8BITMIME\r\n250 AUTH PLAIN"
        if verb in ("HELO", "MAIL", "RSET", "NOOP"):
            self._receivers = []
            return "250 well"
        if verb == "RCPT":
            self._receivers.append(rest.partition("<")[2].partition(">")[0])
            return "250 well"
        if verb == "AUTH":
            login = rest.partition(" ")[2] or self._ask("334 ")
            box.logins.append(base64.b64decode(login).decode())
            return "235 well"
        if verb == "DATA":
            self._say("354 go on")
            body = b"".join(iter(self.rfile.readline, b".\r\n"))
            if box.status == 250:
                mail = email.message_from_bytes(body, policy=email.policy.default)
                assert isinstance(mail, EmailMessage)
                box.mails.append((self._receivers, mail))
            return f"{box.status} done"
        return "502 what?"

    def _ask(self, text: str) -> str:
        self._say(text)
        return self.rfile.readline().decode().strip()

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    box: Mailbox

    def handle_error(self, *_: object) -> None:  # a client that was killed
        pass


@contextmanager
def mailing(port: int = 0) -> Iterator[Mailbox]:
    """A server while the block runs; port 0 takes any that is free."""
    with _Server(("127.0.0.1", port), _Session) as server:
        box = server.box = Mailbox()
        box.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()


def text_of(mail: EmailMessage) -> str:
    """What a person reads."""
    body = mail.get_body(preferencelist=("plain", "html"))
    assert body is not None
    return str(body.get_content())
