"""What is computed beside a page: once, followed by the page that did not wait; a failure is told and tried again."""

from __future__ import annotations

import threading

from passerelle.dashboard.later import Later
from passerelle.errors import LedgerError


def test_a_failure_is_told_and_tried_again() -> None:
    later, answers = Later(), iter([LedgerError("a segment is being written."), 7])
    made = []

    def make() -> object:
        made.append(1)
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    failed = later.get("key", make, wait_s=10)
    assert (failed.standing, failed.reason) == ("failed", "a segment is being written.")
    assert [later.get("key", make, wait_s=10).value for _ in range(2)] == [7, 7]
    assert len(made) == 2


def test_only_what_a_page_did_not_wait_for_is_news() -> None:
    later, may_end = Later(), threading.Event()
    assert later.get("quick", lambda: 1, wait_s=10).value == 1
    assert later.finished == 0
    slow = {"slow": ("slow", lambda: may_end.wait(10))}
    assert [later.all(slow, wait_s=0.01)["slow"].standing for _ in range(3)] == ["computing"] * 3
    may_end.set()
    assert later.all(slow, wait_s=10)["slow"].value is True
    for _ in range(1000):
        if later.finished:
            break
        threading.Event().wait(0.01)  # the count comes just after the result
    assert later.finished == 1


def test_what_had_been_left_and_failed_is_told_once() -> None:
    later, may_end = Later(), threading.Event()

    def make() -> None:
        may_end.wait(10)
        raise LedgerError("no.")

    assert later.get("key", make, wait_s=0.01).standing == "computing"
    may_end.set()
    assert later.get("key", make, wait_s=10).standing == "failed"
