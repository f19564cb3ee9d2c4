"""One server for a worker's tests, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator

import aws_place
import aws_policy
import pytest


@pytest.fixture(scope="session")
def aws_address() -> Iterator[str]:
    with aws_place.server() as address:
        yield address


@pytest.fixture
def aws(aws_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The server's address; empty but for a bucket. After the test: no request was one that AWS does not know, or
    that the policies of the how-to do not grant."""
    for name, value in aws_place.VARIABLES.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_address)
    aws_place.control(aws_address, "_reset")
    aws_place.client("s3").create_bucket(
        Bucket=aws_place.BUCKET, CreateBucketConfiguration={"LocationConstraint": aws_place.REGION}
    )
    yield aws_address
    faults = [line for line in aws_place.control(aws_address, "_log") if line.startswith("FAULT")]
    assert faults == []
    assert aws_policy.outside(aws_place.control(aws_address, "_seen"), aws_place.PROJECT) == []
