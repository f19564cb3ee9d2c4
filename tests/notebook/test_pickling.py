from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest

from passerelle.errors import SubmissionError
from passerelle.notebook.environment import installed_packages, without_secrets
from passerelle.notebook.pickling import pickled, project_modules

LOCK = threading.Lock()


def locked() -> object:
    return LOCK


def test_a_module_of_the_project_travels_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("from parts.numbers import double\n")
    (tmp_path / "parts" / "numbers.py").write_text("FACTOR = 2\n\n\ndef double(x):\n    return x * FACTOR\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("parts")
    assert {one.__name__ for one in project_modules(tmp_path)} == {"parts", "parts.numbers"}
    data = pickled({"features": module.double}, tmp_path)
    assert cloudpickle.list_registry_pickle_by_value() == set()
    code = "import sys, pickle; print(pickle.loads(sys.stdin.buffer.read())['features'](21))"
    done = subprocess.run([sys.executable, "-I", "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout == b"42\n"
    for name in ("parts", "parts.numbers"):
        monkeypatch.delitem(sys.modules, name)


def test_what_is_installed_or_ours_travels_by_name(tmp_path: Path) -> None:
    names = {module.__name__ for module in project_modules(Path(__file__).resolve().parents[2])}
    assert not {name for name in names if name.startswith(("numpy", "passerelle", "cloudpickle"))}
    assert project_modules(tmp_path) == []


def test_the_global_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with pytest.raises(SubmissionError, match="'LOCK', which features reads, cannot be written to a file"):
            pickled({"model": None, "features": locked}, tmp_path)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("PATH", "/bin", True),
        ("LC_ALL", "C.UTF-8", True),
        ("HOME", "/home/me", True),
        ("https_proxy", "http://proxy:3128", True),
        ("https_proxy", "http://me:hush@proxy:3128", False),
        ("OPENAI_API_KEY", "x", False),
        ("db_password", "x", False),
        ("GITHUB_TOKEN", "x", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", "x", False),
        ("AZURE_TENANT_ID", "x", False),
        ("SSH_AUTH_SOCK", "x", False),
        ("PYTHONHOME", "x", False),
        ("MYSQL_PWD", "x", False),
        ("DBPWD", "x", False),
        ("PWD", "/home/me", True),
        ("OLDPWD", "/home", True),
        ("GH_PAT", "x", False),
        ("PATTERN", "x", True),
        ("SMTP_PASS", "x", False),
        ("COMPASS", "x", True),
        ("STORAGE_CONNECTION_STRING", "x", False),
        ("SLACK_WEBHOOK_URL", "x", False),
        ("SENTRY_DSN", "x", False),
        ("LDAP_BIND_PW", "x", False),
        ("OMP_PROC_BIND", "close", True),
        ("CLIENT_CERT", "x", False),
        ("SSL_CERT_FILE", "/etc/ssl/cert.pem", True),
        ("ERRORS", "https://8f0c@errors.example/5", False),
        ("WAREHOUSE", "postgres://me:hu/sh@db/sales", False),
        ("WAREHOUSE", "Server=db;User Id=me;Pwd=hush", False),
        ("BUCKET", "https://store.example/data?sv=1&sig=hush", False),
        ("PAGE", "https://example.org/@me", True),
    ],
)
def test_secrets_stay_behind(name: str, value: str, kept: bool) -> None:  # noqa: FBT001
    assert (name in without_secrets({name: value})) is kept


def test_packages_are_listed_by_name() -> None:
    packages = installed_packages()
    assert packages["cloudpickle"] == cloudpickle.__version__
    assert list(packages) == sorted(packages, key=str.lower)
