"""The policies of the how-to grant what is asked of AWS, on what it is asked of, and nothing besides."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import aws_place
import aws_policy
import msgspec
import pytest
from aws_policy import Need, granting, needs, outside, policy

from passerelle.adapters.objectstore import ObjectStorage, get_folder, put_folder
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.spec import Variant

#: A name that S3's keys have as it is, and SageMaker's names with a hyphen.
PROJECT = "late_trips"
#: Asked by SageMaker for its own: it pulls the image, and writes logs and measures.
OF_THE_PLATFORM = {"PullImage", "EnterRegistryAndMeasure", "WriteLogs"}


def everything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that we ask of AWS: deploy, change, train, look at logs, keep a ledger, remove."""
    for strategy in ("container", "platform"):
        settings = msgspec.structs.replace(aws_place.SETTINGS, strategy=strategy, canary_percent=None)
        target = aws_place.target(folder, settings, PROJECT)
        shadow = Variant(version=9, bundle="b9", digest=f"{9:064x}", weight=0, mode="shadow")
        for number in (1, 2):
            made = aws_place.revision(number, project=PROJECT)
            variants = (*made.variants, shadow) if number == 2 else made.variants
            apply_deployment(target, msgspec.structs.replace(made, variants=variants), "production")
        more = msgspec.structs.replace(settings.scaling, requests_per_minute=60)
        changed = aws_place.target(folder, msgspec.structs.replace(settings, scaling=more), PROJECT)
        apply_deployment(changed, msgspec.structs.replace(made, variants=variants), "production")
        aws_place.write_log(f"{PROJECT.replace('_', '-')}-production", "a line")
        assert "a line" in target.logs("production")
        if strategy == "platform":  # somebody changes the weights by hand
            split = tuple(msgspec.structs.replace(one, weight=0.5, mode="live") for one in variants)
            halves = msgspec.structs.replace(made, revision=3, variants=split)
            restoring = msgspec.structs.replace(settings, drift="restore")
            apply_deployment(target, halves, "production")
            aws_place.set_weight("late-trips-production", "live", 0.9)
            apply_deployment(aws_place.target(folder, restoring, PROJECT), halves, "production")
        apply_deployment(target, None, "production")
    job = aws_place.job(secrets.token_hex(4), PROJECT)
    put_folder(job.input, aws_place.sent(folder))
    target.start(job)
    target.stop(job.name)
    target.start(msgspec.structs.replace(job, name=f"{job.name}-2", output=f"{job.output}-2"))  # as loop.jobs goes on
    put_folder(job.output, folder / "sent")
    get_folder(job.output, folder / "fetched")
    at = f"{aws_place.SETTINGS.store}/ledger/{PROJECT}/production"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "serving")
    slot = ObjectStorage(at).claim("worker")
    slot.append(b"answers")
    slot._last -= 1  # the answer to an append was lost, and it is sent again
    slot.append(b"answers")
    slot.release()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    ledger = ObjectStorage(at)
    (segment,) = ledger.names()
    assert ledger.read(segment) == b"answers"
    ledger.delete(segment)


def test_every_request_is_granted_and_every_line_is_asked_for(
    aws_address: str, aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(tmp_path, monkeypatch)
    seen = aws_place.control(aws, "_seen")
    aws_place.control(aws_address, "_reset")  # the fixture's own check is for another project
    assert outside(seen, PROJECT) == []
    for who, name in aws_policy.OF.items():
        statements = policy(name, PROJECT)
        used = {part for need in needs(seen) if need.who == who for part in granting(statements, need)}
        lines: set[Any] = {
            (one["Sid"], action, resource)
            for one in statements
            for action in aws_policy.listed(one["Action"])
            for resource in aws_policy.listed(one["Resource"])
            if who == "test" or one["Sid"] not in OF_THE_PLATFORM
        }
        for which in (1, 2):  # each action of a statement, and each of its resources
            asked = {(part[0], part[which]) for part in used}
            assert {(part[0], part[which]) for part in lines} - asked == set(), f"{name}: never asked for"


@pytest.mark.parametrize(
    ("who", "action", "key"),
    [
        ("serving", "s3:PutObject", "runs/late_trips/7/output/model.tar.gz"),
        ("serving", "s3:GetObject", "runs/late_trips/7/input/asked.msgpack"),
        ("serving", "s3:PutObject", "packages/late_trips/production/000001-0.tar.gz"),
        ("serving", "s3:DeleteObject", "ledger/late_trips/production/segments/a"),
        ("serving", "s3:PutObject", "ledger/others/production/segments/a"),
        ("training", "s3:PutObject", "runs/late_trips/7/input/project/passerelle.toml"),
        ("training", "s3:PutObject", "packages/late_trips/production/000001-0.tar.gz"),
        ("training", "s3:GetObject", "ledger/late_trips/production/segments/a"),
        ("training", "s3:PutObject", "ledger/late_trips/production/segments/a"),
        ("test", "s3:PutObject", "elsewhere/a"),
        ("test", "s3:PutObject", "packages/late-trips/a"),
    ],
)
def test_what_nobody_should_do_is_not_granted(who: str, action: str, key: str) -> None:
    need = Need(who, action, f"arn:aws:s3:::models/passerelle/{key}")
    assert granting(policy(aws_policy.OF[who], PROJECT), need) == []
    assert granting([{"Sid": "all", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}], need)


def test_a_request_outside_is_found() -> None:
    seen = [
        {"who": "serving", "service": "s3", "method": "PUT", "path": "/models/passerelle/runs/trips/a", "query": {}},
        {"who": "test", "service": "s3", "method": "GET", "path": "/models", "query": {"prefix": "passerelle/data/"}},
        {"who": "test", "service": "sagemaker", "operation": "DeleteModel", "body": {"ModelName": "theirs"}},
        {"who": "onlooker", "service": "s3", "method": "PUT", "path": "/models/passerelle/runs/trips/a", "query": {}},
    ]
    assert outside(seen, "trips") == [
        "serving: s3:PutObject on arn:aws:s3:::models/passerelle/runs/trips/a",
        "test: s3:ListBucket on arn:aws:s3:::models",
        f"test: sagemaker:DeleteModel on arn:aws:sagemaker:{aws_policy.REGION}:{aws_policy.ACCOUNT}:model/theirs",
    ]
