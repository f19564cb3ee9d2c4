"""Nothing is sent but to this machine, unless it is said twice."""

from __future__ import annotations

import pytest

from passerelle.load.target import TargetError, find_target


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://localhost:8700", "http://localhost:8700/predict"),
        ("http://127.0.0.1:8700/", "http://127.0.0.1:8700/predict"),
        ("http://[::1]:8700/invocations", "http://[::1]:8700/invocations"),
        ("https://127.0.0.1", "https://127.0.0.1:443/predict"),
    ],
)
def test_this_machine_is_open(given: str, url: str) -> None:
    assert find_target(given, token=True).url == url


@pytest.mark.parametrize("url", ["http://10.0.0.7:8700", "http://example.com:8700", "http://127.0.0.1.example.com"])
@pytest.mark.parametrize("confirmed", [None, "", "example", "http://10.0.0.7:8700", "localhost", "10.0.0.7:8701"])
def test_other_machines_are_refused(url: str, confirmed: str | None) -> None:
    with pytest.raises(TargetError, match="is not this machine, and nothing was sent"):
        find_target(url, confirmed=confirmed)


def test_another_machine_is_open_once_it_is_named_again() -> None:
    for confirmed in ("10.0.0.7", "10.0.0.7:8700"):
        assert find_target("http://10.0.0.7:8700", confirmed=confirmed).address == "10.0.0.7:8700"


def test_a_token_is_not_sent_in_the_open() -> None:
    with pytest.raises(TargetError, match="for all to read: use https"):
        find_target("http://10.0.0.7:8700", confirmed="10.0.0.7", token=True)
    assert find_target("https://10.0.0.7", confirmed="10.0.0.7", token=True).tls


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8700",
        "ftp://localhost",
        "http://",
        "http://me:pw@localhost",
        "http://localhost:99999",
        "http://localhost/?a=b",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(TargetError, match="no address"):
        find_target(url)
