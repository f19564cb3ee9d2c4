"""Fixtures of Azure; a test file takes them by ``pytest_plugins = ["azure_fixtures"]``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from azure_case import Azure, azure_running, blobs, variables
from azure_openapi import ABSENT
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from stores import running

from passerelle.adapters.azureml_rest import Arm  # noqa: F401  (a missing extra fails here, not in each test)
from passerelle.adapters.objectstore import open_store


def certificate(folder: Path) -> None:
    """A certificate of this machine for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture(scope="module")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Azure, Path]]:
    if ABSENT:
        pytest.skip(ABSENT)
    folder = tmp_path_factory.mktemp("azure")
    certificate(folder)
    with azure_running(folder) as azure, running("az") as store, pytest.MonkeyPatch.context() as patch:
        for name, value in {**variables(azure), **store}.items():
            patch.setenv(name, value)
        yield azure, folder


@pytest.fixture
def azure(azure_server: tuple[Azure, Path]) -> Azure:
    """An Azure with nothing but a workspace and its datastore in it."""
    server = azure_server[0]
    server.clear()
    store = open_store("az://passerelle-tests")
    for found in list(store.list()):
        store.delete(found.key)
    assert not blobs()
    return server
