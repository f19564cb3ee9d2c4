"""MemoryChannel: the in-memory twin of a channel; and what every channel must do, for tests and for who writes one."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from passerelle.monitoring.messages import Channel, ChannelError, Message


class MemoryChannel:
    """Keeps what it accepts. Set ``refuses`` to have every message refused.

    >>> channel = MemoryChannel()
    >>> channel.send(Message(id="1", title="production: latency", body="slow"))
    >>> [message.title for message in channel.received]
    ['production: latency']
    """

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.refuses = False

    def send(self, message: Message) -> None:
        """See Channel."""
        if self.refuses:
            raise ChannelError("the channel refuses, as you asked.")
        self.received.append(message)


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """A channel under test, and the other end of it."""

    channel: Channel
    #: The id, title and body of what arrived, in order, as far as the other end can read them.
    received: Callable[[], list[Message]]
    #: Have the other end refuse from now on, or accept again.
    refuse: Callable[[], None]
    accept: Callable[[], None]
    #: What must never be shown: a word of the address.
    hidden: str


Check = Callable[[Bench], None]

_FIRST = Message(
    id="production-latency-1-opened", title="production: latency", body="12 of 100 were slow.\nNext: look."
)


def _expect(found: object, due: object, what: str) -> None:
    # Not an assert statement: the checks must hold under python -O, too.
    if found != due:
        raise AssertionError(f"{what}: {due!r} was due, and it is {found!r}")


def check_message_arrives_whole(bench: Bench) -> None:
    """What was accepted arrives, once, with its id, title and body."""
    bench.channel.send(_FIRST)
    _expect(bench.received(), [_FIRST], "what arrived")


def check_letters_of_the_world(bench: Bench) -> None:
    """Accents, quotes and lines arrive as they are."""
    message = Message(id="2", title="Été: « prod »", body='a "quoted" line\n\u00e9\u4e2d\U0001f327')
    bench.channel.send(message)
    _expect(bench.received(), [message], "what arrived")


def check_again_is_the_same_id(bench: Bench) -> None:
    """A message that is sent again arrives again, under the same id."""
    bench.channel.send(_FIRST)
    bench.channel.send(_FIRST)
    _expect([message.id for message in bench.received()], [_FIRST.id, _FIRST.id], "the ids")


def check_refusal_is_an_error(bench: Bench) -> None:
    """A message that is not accepted raises ChannelError, which does not show the address; the next one may pass."""
    bench.refuse()
    try:
        bench.channel.send(_FIRST)
    except ChannelError as error:
        if bench.hidden in str(error):
            raise AssertionError("the error shows the address") from error
    else:
        raise AssertionError("a ChannelError was due, and none was raised")
    bench.accept()
    bench.channel.send(_FIRST)
    _expect(bench.received(), [_FIRST], "what arrived")


CHECKS: tuple[Check, ...] = (
    check_message_arrives_whole,
    check_letters_of_the_world,
    check_again_is_the_same_id,
    check_refusal_is_an_error,
)
