"""The clock, the errors and the names: small parts that everything leans on."""

from __future__ import annotations

from passerelle import errors
from passerelle.clock import system_clock
from passerelle.errors import PasserelleError
from passerelle.names import missing_extra


def test_now_is_aware() -> None:
    assert system_clock().utcoffset() is not None


def test_every_error_has_a_default_message_that_says_what_to_do() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, PasserelleError)]
    assert len(classes) > 10
    for one in classes:
        assert str(one()) == (one.__doc__ or "").strip()
        assert one.exit_code in (1, 2, 3)


def test_a_package_that_is_not_ours_to_install_is_not_explained_away() -> None:
    assert missing_extra(ModuleNotFoundError(name="torch")) is None
    assert "passerelle[serve]" in str(missing_extra(ModuleNotFoundError(name="uvicorn.config")))
