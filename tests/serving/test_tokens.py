from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from passerelle.errors import ServingError
from passerelle.serving.door import Door, RefusedError, UnknownCallerError
from passerelle.serving.tokens import allows, make_token, read_tokens, revoke_token

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def test_a_token_is_shown_once_and_kept_as_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "state" / "tokens.json"
    secret = make_token(path, name="ci", scopes=("predict", "label"), created_at=NOW)
    assert secret.startswith("psr_")
    assert len(secret) == 47  # 256 bits
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (token,) = read_tokens(path)
    assert (token.name, token.scopes, token.created_at, token.expires_at) == ("ci", ("predict", "label"), NOW, None)
    assert [path.name for path in path.parent.iterdir()] == ["tokens.json"]


def test_scopes_expiry_and_admin(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    later = NOW + timedelta(days=1)
    label = make_token(path, name="a", scopes=("label",), created_at=NOW, expires_at=later)
    admin = make_token(path, name="b", scopes=("admin",), created_at=NOW)
    tokens = read_tokens(path)
    assert allows(tokens, label, "label", NOW)
    assert not allows(tokens, label, "predict", NOW)
    assert not allows(tokens, label, "label", later)
    assert allows(tokens, admin, "predict", later)
    assert not allows(tokens, admin + "x", "predict", NOW)
    assert not allows((), admin, "predict", NOW)


def test_nobodys_token_is_replaced_by_accident_and_a_revoked_one_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    old = make_token(path, name="ci", scopes=("read",), created_at=NOW)
    with pytest.raises(ServingError, match="there is a token 'ci' already: revoke it first"):
        make_token(path, name="ci", scopes=("predict",), created_at=NOW)
    assert allows(read_tokens(path), old, "read", NOW)
    revoke_token(path, "ci")
    assert read_tokens(path) == ()
    with pytest.raises(ServingError, match=r"there is no token 'ci'; there are \[\]"):
        revoke_token(path, "ci")


def test_a_new_token_passes_at_once_and_the_file_is_read_once_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.json"
    make_token(path, name="first", scopes=("read",), created_at=NOW)
    door = Door(path, host="127.0.0.1")
    secret = make_token(path, name="second", scopes=("predict",), created_at=NOW)
    door.check("predict", authorization=f"Bearer {secret}", host=None)
    monkeypatch.setattr("passerelle.serving.door.read_tokens", lambda _path: pytest.fail("it has not changed"))
    for wrong in (f"Bearer {secret}x", f"Basic {secret}"):
        with pytest.raises(RefusedError):
            door.check("predict", authorization=wrong, host=None)
    with pytest.raises(RefusedError):
        door.check("label", authorization=f"Bearer {secret}", host=None)


def test_a_damaged_file_lets_nobody_through(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    secret = make_token(path, name="ci", scopes=("read",), created_at=NOW)
    door = Door(path, host="127.0.0.1")
    path.write_text("{")
    with pytest.raises(ServingError, match="is damaged"):
        Door(path, host="127.0.0.1")
    door.refresh()  # a door that is in use keeps the tokens that it has read
    door.check("read", authorization=f"Bearer {secret}", host=None)
    path.unlink()
    door.refresh()  # and does not open because the file is gone
    with pytest.raises(UnknownCallerError):
        door.check("read", authorization=None, host="localhost")
    with pytest.raises(RefusedError):
        door.check("read", authorization=f"Bearer {secret}", host="localhost")
    door.check("nothing", authorization=None, host="evil.example")


def test_behind_a_platform_that_decides_all_pass_but_administrators(tmp_path: Path) -> None:
    door = Door(tmp_path / "tokens.json", host="0.0.0.0", auth="platform")  # noqa: S104  (nothing listens)
    for needed in ("predict", "label", "read", "nothing"):
        door.check(needed, authorization=None, host="a.region.inference.example")
    with pytest.raises(ServingError, match="send the header Authorization"):
        door.check("admin", authorization=None, host="localhost")
