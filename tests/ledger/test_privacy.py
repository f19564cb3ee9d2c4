import hashlib

import pytest

from passerelle.errors import LedgerError
from passerelle.ledger.privacy import protect, protect_unit

INPUTS = {"origin": "EWR", "tail": "N14228", "captain": "Ada", "seat": None}


def test_each_column_is_kept_hashed_or_dropped() -> None:
    kept = protect(INPUTS, {"origin": "keep", "tail": "hash", "captain": "drop", "seat": "hash"}, salt="s")
    digest = hashlib.blake2b(b"tail\0N14228", key=b"s", digest_size=16).hexdigest()
    assert kept == {"origin": "EWR", "tail": digest, "seat": None}


def test_without_rules_all_is_kept_in_a_copy() -> None:
    kept = protect(INPUTS, {}, salt="")
    assert kept == INPUTS
    assert kept is not INPUTS


def test_unit_is_kept_hashed_as_its_column_or_dropped() -> None:
    assert protect_unit("N14228", "tail", {}, "s") == "N14228"
    hashed = protect({"tail": "N14228"}, {"tail": "hash"}, salt="s")["tail"]
    assert protect_unit("N14228", "tail", {"tail": "hash"}, "s") == hashed
    assert protect_unit("N14228", "tail", {"tail": "drop"}, "s") == ""
    assert protect_unit("e1", None, {"tail": "drop"}, "s") == "e1"


def test_a_number_and_its_text_have_one_hash() -> None:
    assert protect({"member": 7}, {"member": "hash"}, salt="s")["member"] == protect_unit(
        "7", "member", {"member": "hash"}, "s"
    )


def test_salt_and_column_change_the_hash() -> None:
    def of(column: str, salt: str) -> str:
        return protect_unit("Ada", column, {column: "hash"}, salt)

    assert len({of("name", "s"), of("name", "t"), of("friend", "s"), of("name", "s" * 200), of("name", "s" * 201)}) == 5


def test_hash_without_salt_is_refused() -> None:
    with pytest.raises(LedgerError, match="'tail' is to be hashed, and the deployment has no salt"):
        protect(INPUTS, {"tail": "hash"}, salt="")
