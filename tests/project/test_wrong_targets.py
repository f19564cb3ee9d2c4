"""What is said of a [targets.NAME] that is wrong: which target, which key, which value, and what it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from passerelle.errors import SettingsError
from passerelle.project.settings import load_project
from passerelle.project.targets import SageMaker

PROJECT = '[project]\nname = "orders"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
DIGEST = f"sha256:{'a' * 64}"
SEA = f"""
[targets.sea]
kind = "sagemaker"
image = "123456789012.dkr.ecr.eu-west-3.amazonaws.com/orders@{DIGEST}"
store = "s3://bucket/orders"
instance = "ml.m5.large"
region = "eu-west-3"
role = "arn:aws:iam::123456789012:role/serving"
"""
KINDS = "local, sagemaker, azureml, vertex, kubernetes"


def load(folder: Path, text: str) -> object:
    path = folder / "passerelle.toml"
    path.write_text(PROJECT + text)
    return load_project(path).targets


def test_target_that_is_right_is_read(tmp_path: Path) -> None:
    found = load(tmp_path, SEA)
    assert isinstance(found, dict)
    assert isinstance(found["sea"], SageMaker)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("instance =", "instanse =", "unknown key 'targets.sea.instanse': did you mean 'instance'?"),
        (
            f"orders@{DIGEST}",
            "orders:latest",
            (
                "'123456789012.dkr.ecr.eu-west-3.amazonaws.com/orders:latest': not taken (at targets.sea.image): it is "
                "an image by its digest, <repository>@sha256:<64 digits>, never a tag: push it, as passerelle image"
            ),
        ),
        ('"s3://bucket/orders"', '"s3:/bucket"', "'s3:/bucket': not taken (at targets.sea.store): it is a folder of"),
        (
            "arn:aws:iam",
            "arn:aws:aim",
            "(at targets.sea.role): it is the ARN of a role of AWS: arn:aws:iam::<12 digits>",
        ),
        ("[targets.sea]", "[targets.Prod]", "[targets.Prod]: 'Prod' is not a name of small letters, digits, _ and -"),
        ('"sagemaker"', '"sage-maker"', "targets.sea has the kind 'sage-maker': did you mean 'sagemaker'?"),
        ('"sagemaker"', '"lambda"', f"targets.sea has the kind 'lambda': name one of {KINDS}."),
        ('kind = "sagemaker"', "", f"targets.sea has no kind: name one of {KINDS}."),
        (
            "region =",
            'strategy = "platfrom"\nregion =',
            "invalid enum value 'platfrom' (at targets.sea.strategy): did you mean 'platform'?",
        ),
        ("region =", 'drift = "x"\nregion =', "(at targets.sea.drift): name one of refuse, restore."),
        ('region = "eu-west-3"', "", "object missing required field `region` (at targets.sea)."),
        ("region =", "timeout_ms = 0\nregion =", "0: expected `int` >= 1 (at targets.sea.timeout_ms)."),
        ("region =", "scaling.minimum = -1\nregion =", "-1: expected `int` >= 0 (at targets.sea.scaling.minimum)."),
        (
            "region =",
            "scaling.least = 1\nregion =",
            "unknown key 'targets.sea.scaling.least': the keys here are minimum",
        ),
        (
            "region =",
            "alarms.error_share = 2\nregion =",
            "2: expected `float` < 1.0 (at targets.sea.alarms.error_share)",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SEA
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, SEA.replace(old, new))
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "passerelle.toml"))


def test_form_of_a_cluster_is_named(tmp_path: Path) -> None:
    cluster = f'[targets.pods]\nkind = "kubernetes"\nimage = "a/b@{DIGEST}"\nstore = "/mnt/s"\nform = "statefulset"\n'
    with pytest.raises(SettingsError, match=r"'statefulset' \(at targets.pods.form\): name one of deployment, kserve"):
        load(tmp_path, cluster)


def test_target_that_is_no_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"targets.sea is 3: write a section, \[targets.sea\]"):
        load(tmp_path, "[targets]\nsea = 3\n")
