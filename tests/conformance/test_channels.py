"""Every channel does what the seam promises: the twin, our own sender, and apprise in front of a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from listening import listening

from passerelle.monitoring.channels import Service, open_channel
from passerelle.monitoring.messages import Message
from passerelle.testing.channels import CHECKS, Bench, Check, MemoryChannel


@pytest.fixture(params=["memory", "webhook", "service"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "memory":
        twin = MemoryChannel()
        yield Bench(
            channel=twin,
            received=lambda: twin.received,
            refuse=lambda: setattr(twin, "refuses", True),
            accept=lambda: setattr(twin, "refuses", False),
            hidden="no-secret-here",
        )
        return
    with listening() as heard:
        status = partial(setattr, heard, "status")
        if request.param == "webhook":
            address = f"http://me:pass-word@127.0.0.1:{heard.port}/hook?key=k"
            yield Bench(
                channel=open_channel(address, private_addresses=True),
                received=lambda: [_of_webhook(value) for _, value in heard.posts],
                refuse=lambda: status(503),
                accept=lambda: status(200),
                hidden="pass-word",
            )
        else:  # Mattermost's protocol: a named service that one may run oneself
            yield Bench(
                channel=Service(f"mmost://127.0.0.1:{heard.port}/abcdefghijklmnopqrstuvwxyz"),
                received=lambda: [_of_service(value) for _, value in heard.posts],
                refuse=lambda: status(503),
                accept=lambda: status(200),
                hidden="abcdefghijklmnopqrstuvwxyz",
            )


def _of_webhook(value: dict[str, Any]) -> Message:
    return Message(id=value["id"], title=value["title"], body=value["body"])


def _of_service(value: dict[str, Any]) -> Message:
    """What apprise makes of a message: everything in one text, the id in its last line."""
    text = json.loads(json.dumps(value))["text"].replace("\r\n", "\n")
    title, _, rest = text.partition("\n")
    body, _, last = rest.rpartition("\n")
    return Message(id=last.strip("()"), title=title.lstrip("# "), body=body)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_channel(check: Check, bench: Bench) -> None:
    check(bench)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_checks_can_fail(check: Check) -> None:
    class Deaf(MemoryChannel):
        def send(self, message: Message) -> None:
            pass

    deaf = Deaf()
    with pytest.raises(AssertionError):
        check(Bench(channel=deaf, received=lambda: deaf.received, refuse=list, accept=list, hidden="x"))
