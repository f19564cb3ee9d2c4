"""Channels: where the messages of alerts go. The outbox keeps each message until its channel has accepted it.

Settings name environment variables; each holds an address: ``https://...`` (a plain webhook, by our own pinned
sender), or what apprise understands (``mailto://``, ``slack://``, ``tgram://`` ...). Addresses hold passwords: none is
ever shown.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from passerelle.monitoring.messages import Channel, ChannelError, Message
from passerelle.monitoring.webhook import Webhook
from passerelle.project.settings import Project
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.lease import LeaseError, lease
from passerelle.state.timeline import Event, record

__all__ = [
    "Channel",
    "ChannelError",
    "Delivered",
    "Message",
    "Service",
    "Undelivered",
    "channel_of",
    "deliver",
    "open_channel",
    "try_channels",
    "undelivered",
]

#: A message is tried so often, each wait twice as long as the one before it: 1, 2, 4 ... minutes, a day and a half.
TRIES = 12
_FIRST_WAIT = timedelta(minutes=1)
#: A channel that has not answered by then, in all, failed; nothing else bounds a slow server, or a name's look-up.
DEADLINE_S = 30.0
#: A message that was accepted is forgotten after so long.
_KEPT = timedelta(days=90)
#: What was given up is shown for so long.
_SHOWN = timedelta(days=7)
#: A channel that takes so long to fail is not asked for its other messages in the same look.
_SLOW_S = 2.0
#: Apprise's own plain webhooks, which would follow redirects and reach any address.
_PLAIN = ("json", "jsons", "xml", "xmls", "form", "forms")


class Undelivered(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that a channel has not accepted."""

    channel: str
    #: How many are tried again, and how many were given up in the last week.
    waiting: int
    given_up: int
    #: What the channel said last.
    problem: str


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the messages that were due."""

    sent: int = 0
    #: A sentence each.
    failed: tuple[str, ...] = ()


class Service:
    """A named service or mail, by apprise. Raises ChannelError if apprise does not understand the address."""

    def __init__(self, address: str) -> None:
        import apprise  # noqa: PLC0415  (a hundred services: loaded by whoever sends)

        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its lines quote addresses
        self._service = apprise.Apprise()
        understood = self._service.add(address)
        if len(self._service) > 1:  # it takes a list for an address
            raise ChannelError("this channel names several addresses: one environment variable for each.")
        # What apprise made of the address counts, not how that begins.
        made = [str(one.url(privacy=True)) for one in self._service]  # type: ignore[no-untyped-call]
        if any(one.partition("://")[0].lower() in _PLAIN for one in made):
            raise ChannelError("write the address of a plain webhook as http(s)://, so that it is sent safely.")
        if not understood:
            raise ChannelError(
                "apprise does not understand the address of this channel: write it as its documentation of the "
                "service says (mailto://..., slack://...)."
            )

    def send(self, message: Message) -> None:
        """Send by apprise; see Channel. The id stands in the last line."""
        body = f"{message.body}\n({message.id})"
        try:
            accepted = self._service.notify(body=body, title=message.title)
        except Exception as error:  # (whatever a service's code raises must not stop the other channels)
            raise ChannelError(f"the service failed ({type(error).__name__}): the message is kept.") from error
        if not accepted:
            raise ChannelError("the service did not accept the message: check the address and the service's status.")


def open_channel(address: str, *, private_addresses: bool = False) -> Channel:
    """The channel of an address. Raises ChannelError if nothing can be sent to such an address."""
    if address.partition("://")[0].lower() in ("http", "https"):
        return Webhook(address, private_addresses=private_addresses)
    return Service(address)


def channel_of(project: Project, name: str) -> Channel:
    """The channel whose address the environment variable of this name holds. Raises ChannelError."""
    address = os.environ.get(name, "").strip()
    if not address:
        raise ChannelError(
            f"the environment variable {name}, which alerts.channels names, is not set: set it to the channel's "
            "address where the loop runs, or take it out of passerelle.toml."
        )
    return open_channel(address, private_addresses=project.alerts.private_addresses)


def deliver(project: Project, *, now: datetime) -> Delivered:
    """Send the messages that are due. One process at a time does: another finds nothing to do meanwhile."""
    engine = open_state(project.state)
    try:
        with lease(project.state, "deliver"):
            return _deliver(project, engine, now=now)
    except LeaseError:
        return Delivered()


def try_channels(project: Project, *, now: datetime) -> dict[str, str | None]:
    """Send each channel a test message, past the outbox: channel → what went wrong; None if it was accepted."""
    message = Message(
        id=f"{project.name}-test-{now:%Y%m%dT%H%M%S}",
        title=f"{project.name}: a test",
        body="Alerts of this project reach you here. Nothing is wrong.",
    )
    found: dict[str, str | None] = {}
    for name in dict.fromkeys(project.alerts.channels):
        try:
            _send(channel_of(project, name), message)
            found[name] = None
        except ChannelError as error:
            found[name] = str(error)
    return found


def undelivered(engine: sa.Engine, *, now: datetime) -> list[Undelivered]:
    """The channels that have failed for a message, or have not been asked yet: in the order of their names."""
    table = tables.outbox
    query = sa.select(table).where(table.c.sent_at.is_(None)).order_by(table.c.channel, table.c.at)
    with engine.connect() as connection:
        rows = [row for row in connection.execute(query) if row.tries < TRIES or now - row.at < _SHOWN]
    found = []
    for channel, of_channel in itertools.groupby(rows, key=lambda row: str(row.channel)):
        left = list(of_channel)
        given_up = sum(row.tries >= TRIES for row in left)
        problem = next((row.problem for row in reversed(left) if row.problem), "it has not been asked yet.")
        found.append(
            Undelivered(channel=channel, waiting=len(left) - given_up, given_up=given_up, problem=str(problem))
        )
    return found


def _deliver(project: Project, engine: sa.Engine, *, now: datetime) -> Delivered:
    table = tables.outbox
    query = sa.select(table).where(table.c.sent_at.is_(None), table.c.tries < TRIES).order_by(table.c.at, table.c.id)
    with engine.connect() as connection:
        rows = sorted(connection.execute(query), key=_ends)
    waiting = {row.id for row in rows}
    sent, failed = 0, []
    stuck: set[str] = set()
    for row in rows:
        if row.channel in stuck or now < _due(row.at, row.tries) or _overtakes(row, waiting):
            continue  # its turn comes at a later look
        begun = time.monotonic()
        try:
            _send(channel_of(project, row.channel), Message(id=row.id, title=row.title, body=row.body))
        except ChannelError as error:
            if isinstance(error, _LateError) or time.monotonic() - begun > _SLOW_S:
                stuck.add(row.channel)
            failed.append(f"{row.channel}: {error}")
            _note_failure(engine, row, str(error), now=now)
            continue
        sent += 1
        waiting.remove(row.id)
        with writing(engine) as connection:
            values = {"sent_at": now, "tries": row.tries + 1, "problem": None}
            connection.execute(table.update().where(table.c.id == row.id).values(**values))
            connection.execute(table.delete().where(table.c.sent_at < now - _KEPT))
    return Delivered(sent=sent, failed=tuple(failed))


class _LateError(ChannelError):
    """The channel took too long: the message is kept. It may have arrived, and may then come twice."""


def _send(channel: Channel, message: Message) -> None:
    """Send, by a thread that is left alone when its time is over."""
    raised: list[BaseException] = []

    def send() -> None:
        try:
            channel.send(message)
        except BaseException as error:  # noqa: BLE001  (raised by whoever waits)
            raised.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    if thread.is_alive():
        raise _LateError(f"it took longer than {DEADLINE_S:g} seconds: the message is kept, and may come twice.")
    if raised:
        raise raised[0]


def _due(at: datetime, tries: int) -> datetime:
    """When a message that failed so often, the last time at that moment, is tried again."""
    return at + _FIRST_WAIT * float(2 ** (tries - 1)) if tries else at


def _ends(row: sa.Row[Any]) -> bool:
    """Does the message say that an alert is over?"""
    return str(row.id).endswith(f"-closed-{row.channel}")


def _overtakes(row: sa.Row[Any], waiting: Collection[str]) -> bool:
    """Would somebody read that an alert is over before they read that there is one?"""
    alert = str(row.id).removesuffix(f"closed-{row.channel}")
    return _ends(row) and any(one != row.id and one.startswith(alert) and one.endswith(row.channel) for one in waiting)


def _note_failure(engine: sa.Engine, row: sa.Row[Any], problem: str, *, now: datetime) -> None:
    """Keep what the channel said; tell the timeline at the first and at the last try."""
    tries = row.tries + 1
    with writing(engine) as connection:
        values = {"at": now, "tries": tries, "problem": problem}
        connection.execute(tables.outbox.update().where(tables.outbox.c.id == row.id).values(**values))
        if tries in (1, TRIES):
            what = "is not tried again" if tries == TRIES else "will be tried again"
            sentence = f"the message {row.title!r} did not reach {row.channel} and {what}: {problem}"
            details = {"message": row.id, "channel": row.channel, "state": "undelivered"}
            record(connection, Event(at=now, kind="alert", subject=row.id, sentence=sentence, details=details))
