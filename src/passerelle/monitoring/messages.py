"""Messages: what channels are given; the seam that every channel fills."""

from __future__ import annotations

from typing import Protocol

import msgspec

from passerelle.errors import PasserelleError


class ChannelError(PasserelleError):
    """The channel did not accept the message: it is kept in the outbox and tried again."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel is given."""

    #: The same whenever it is sent again: a channel that knows it may drop the repeat.
    id: str
    title: str
    #: A few lines.
    body: str


class Channel(Protocol):
    """One place that messages go to; the seam."""

    def send(self, message: Message) -> None:
        """Return when the channel has accepted the message.

        Called by deliver, in turn, never twice for a message that was accepted, unless this process died before it
        could note that. Raises ChannelError, without the address in its words: the message is then tried again later.
        """
