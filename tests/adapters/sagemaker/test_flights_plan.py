"""The plan of examples/flights at SageMaker, as a cloud engineer reads it: the guide shows it, to the letter."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import aws_place
import pytest
from click.testing import CliRunner
from shelf import Shelf

from passerelle.bundle.keys import KEY_VARIABLE
from passerelle.cli import main
from passerelle.deployment import image_facts
from passerelle.deployment.image_facts import ImageFacts
from passerelle.loop import train
from passerelle.loop.rollout import revisions
from passerelle.project.settings import load_project

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("flights_plan.txt")


def test_the_plan_of_the_example(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "flights"
    shutil.copytree(ROOT / "examples/flights", root, ignore=shutil.ignore_patterns(".passerelle"))
    project = load_project(root / "passerelle.toml")
    shelf = Shelf(project)
    monkeypatch.setattr(train, "registry_of", lambda _: shelf)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    # Its registry has the image.
    there = ImageFacts(digest="sha256:" + "0" * 64, architectures=("amd64",))
    monkeypatch.setattr(image_facts, "inspect", lambda *_, **__: there)
    place = {"LocationConstraint": aws_place.REGION}
    aws_place.client("s3").create_bucket(Bucket="flights-models", CreateBucketConfiguration=place)
    done = CliRunner().invoke(main, ["-C", str(root), "deploy", "1", "--target", "sagemaker", "--plan"])
    assert done.exit_code == 0, done.output
    asked = aws_place.control(aws, "_log")
    assert [line for line in asked if "Describe" in line]
    assert not [line for line in asked if re.search("FAULT|Create|Put|Update|Delete|Register", line)]
    aws_place.control(aws, "_reset")
    assert revisions(project, "cloud").numbers() == []
    # Digests depend on the moment, the salt and the key.
    digests = r'(?<=-)[0-9a-f]{8}(?:[0-9a-f]{4})?\b|(?<=")[0-9a-f]{64}(?=")'
    said = re.sub(digests, lambda one: ("1a2b3c4d" * 8)[: len(one[0])], done.output)
    assert said == GOLDEN.read_text()
    assert f"```text\n{said}```" in (ROOT / "docs/howto/sagemaker.md").read_text()
