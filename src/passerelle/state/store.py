"""Store: what sharing asks of the place that holds the files of a state folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from passerelle.names import load


class Listed(Protocol):
    """An object that lies in a store."""

    @property
    def key(self) -> str:
        """Its key."""

    @property
    def size_bytes(self) -> int:
        """How large it is."""


class Store(Protocol):
    """What sharing asks of a store; adapters.objectstore.Store has it, for object stores and folders.

    Any method may raise: nothing is told to the database then, and the job ends.
    """

    def get(self, key: str) -> bytes | None:
        """What an object holds; None if there is none. Called for every file that a job lacks."""

    def put(self, key: str, data: bytes, *, only_new: bool) -> bool:
        """Put an object that lasts, whole; False if there is one of this key, which stays as it is."""

    def list(self, prefix: str) -> Iterable[Listed]:
        """The objects below a prefix. Called when a job begins."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none. Called when something is erased."""


def open_store(at: str) -> Store:
    """The store of an address. Raises MissingExtraError where its client is not installed."""
    found: Store = load("passerelle.adapters.objectstore:open_store")(at)
    return found
