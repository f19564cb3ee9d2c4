"""Every Storage passes the same checks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from passerelle.ledger.storage import LocalStorage, Storage, open_storage
from passerelle.testing.storage import MemoryStorage
from passerelle.testing.storage_checks import CHECKS, Check

pytest_plugins = ["store_fixtures"]

STORAGES: dict[str, Callable[[Path], Storage]] = {"local": LocalStorage, "memory": lambda _: MemoryStorage()}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", STORAGES)
def test_storage(name: str, check: Check, tmp_path: Path) -> None:
    check(STORAGES[name](tmp_path))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_storage_in_an_object_store(address: str, check: Check, tmp_path: Path) -> None:
    check(open_storage(address, tmp_path))
