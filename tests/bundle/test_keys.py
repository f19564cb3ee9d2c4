"""Keys: made once, for one user, and never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from passerelle.bundle.keys import own_key, public_hex, throwaway_key, trust, trusted
from passerelle.errors import SettingsError


@pytest.fixture(autouse=True)
def _no_key_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PASSERELLE_KEY", raising=False)


def test_made_on_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    first = own_key(folder)
    assert public_hex(own_key(folder)) == public_hex(first)
    assert [path.name for path in folder.iterdir()] == ["key.pem"]
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_configuration_folder_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    own_key()
    assert (tmp_path / "xdg" / "passerelle" / "key.pem").exists()
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    own_key()
    assert (tmp_path / "home" / ".config" / "passerelle" / "key.pem").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    own_key(tmp_path)
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(SettingsError, match=rf"mode {mode:04o}\): run chmod 600"):
        own_key(tmp_path)


def test_secret_of_ci_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = throwaway_key()
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    own_key(tmp_path)
    monkeypatch.setenv("PASSERELLE_KEY", pem)
    assert public_hex(own_key(tmp_path)) == public_hex(secret)
    monkeypatch.setenv("PASSERELLE_KEY", "hunter2")
    with pytest.raises(SettingsError, match="the environment variable PASSERELLE_KEY does not hold") as caught:
        own_key(tmp_path)
    assert "hunter2" not in str(caught.value)


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    pem = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "key.pem").chmod(0o600)
    with pytest.raises(SettingsError, match="another kind"):
        own_key(tmp_path)


def test_trust_is_a_file_that_can_be_removed(tmp_path: Path) -> None:
    one, two = public_hex(throwaway_key()), public_hex(throwaway_key())
    assert trusted(tmp_path) == ()
    path = trust(tmp_path, one)
    trust(tmp_path, two)
    trust(tmp_path, one)
    assert path == tmp_path / "trust" / f"{one[:16]}.pub"
    assert set(trusted(tmp_path)) == {one, two}
    assert len(trusted(tmp_path)) == 2
    path.unlink()
    assert trusted(tmp_path) == (two,)
    with pytest.raises(SettingsError, match="is not a public key"):
        trust(tmp_path, "../../etc")
    (tmp_path / "trust" / "x.pub").write_text("nonsense")
    with pytest.raises(SettingsError, match=r"x\.pub is not a public key"):
        trusted(tmp_path)
