"""A package in moto's S3, as a real process on this machine, and what a container is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aws_place
import pytest

from passerelle.adapters.objectstore import put_folder


@contextmanager
def in_a_store(package: Path) -> Iterator[dict[str, str]]:
    """The variables by which a container fetches it; at the end: it was fetched whole, by the container."""
    at = f"s3://{aws_place.BUCKET}/packages/flights"
    with aws_place.server() as address, pytest.MonkeyPatch.context() as patch:
        told = {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": aws_place.REGION}
        told |= {name: value for name, value in aws_place.VARIABLES.items() if value}
        for name, value in told.items():
            patch.setenv(name, value)
        place = {"LocationConstraint": aws_place.REGION}
        aws_place.client("s3").create_bucket(Bucket=aws_place.BUCKET, CreateBucketConfiguration=place)
        put_folder(at, package)
        yield told | {"PASSERELLE_PACKAGE": at, "AWS_ACCESS_KEY_ID": "serving"}
        seen = aws_place.control(address, "_seen")
        files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
        fetched = {
            one["path"].partition("/packages/flights/")[2]
            for one in seen
            if (one["who"], one["method"]) == ("serving", "GET")
        }
        assert files <= fetched, seen
