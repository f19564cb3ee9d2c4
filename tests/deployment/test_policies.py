"""Policies with a target's names in: whole, legal for moto's IAM, and their conditions read as the clouds read them."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from click.testing import CliRunner
from moto import mock_aws

from passerelle.cli import main
from passerelle.deployment.policies import policies
from passerelle.errors import SettingsError
from passerelle.project.settings import Project, load_project

ROOT = Path(__file__).parents[2]
FILES = ROOT / "docs/howto/policies"
IMAGE = f"@sha256:{'0' * 64}"
HEAD = '[project]\nname = "late_trips"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
SECTIONS = {
    "aws": f"""kind = "sagemaker"
region = "eu-west-3"
role = "arn:aws:iam::123456789012:role/serves"
training_role = "arn:aws:iam::123456789012:role/trains"
image = "123456789012.dkr.ecr.eu-west-3.amazonaws.com/ml/trips{IMAGE}"
store = "s3://acme-models/passerelle"
instance = "ml.m5.large"
""",
    "azure": f"""kind = "azureml"
subscription = "s-1"
resource_group = "models"
workspace = "main"
location = "westeurope"
image = "acme.azurecr.io/trips{IMAGE}"
store = "abfss://blobs@acme.dfs.core.windows.net/passerelle"
instance = "Standard_DS2_v2"
""",
    "google": f"""kind = "vertex"
project = "acme"
region = "europe-west1"
image = "europe-west1-docker.pkg.dev/acme/images/trips{IMAGE}"
store = "gs://acme-models"
instance = "n1-standard-2"
service_account = "trips@acme.iam.gserviceaccount.com"
""",
    "cluster": f"""kind = "kubernetes"
namespace = "ml"
image = "registry.example/trips{IMAGE}"
store = "s3://acme-models/passerelle"
""",
}
SECTIONS["cluster"] += 'instance = ""\nenvironment = "staging"\n'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    path = tmp_path / "passerelle.toml"
    path.write_text(
        HEAD
        + '[targets.here]\nkind = "local"\n'
        + "".join(f"[targets.{name}]\n{text}" for name, text in SECTIONS.items())
    )
    return load_project(path)


@pytest.mark.parametrize("target", SECTIONS)
def test_nothing_is_left_to_fill_in(target: str, project: Project) -> None:
    found = policies(project, target)
    assert found
    for name, text in found.items():
        if name.endswith(".json"):
            json.loads(text)
        elif name.endswith(".yaml"):
            assert list(yaml.safe_load_all(text))
        said = re.sub(r"(?m)^\s*#.*$", "", text)
        # But for the words of Azure's conditions and YAML's.
        left = set(re.findall(r"\b[A-Z][A-Z_]{2,}\b", said)) - {"AND", "NOT", "TCP"}
        assert left <= ({"GA"} if name.endswith(".yaml") else set()), (name, left)
        assert "models/PREFIX" not in text
        assert "//packages" not in text


def test_each_file_is_for_some_target(project: Project) -> None:
    assert {name for target in SECTIONS for name in policies(project, target)} == {one.name for one in FILES.iterdir()}


def test_names_are_those_of_the_target(project: Project) -> None:
    aws = policies(project, "aws")
    deployer = aws["sagemaker-deployer.json"]
    assert "arn:aws:s3:::acme-models/passerelle/packages/late_trips/*" in deployer
    assert "arn:aws:sagemaker:eu-west-3:123456789012:*/late-trips-*" in deployer
    roles = next(one for one in json.loads(deployer)["Statement"] if one["Sid"] == "Roles")
    assert roles["Resource"] == ["arn:aws:iam::123456789012:role/serves", "arn:aws:iam::123456789012:role/trains"]
    assert ":eu-west-3:123456789012:repository/ml/trips" in aws["sagemaker-serving-role.json"].replace("ecr", "")
    google = policies(project, "google")
    assert "buckets/acme-models/objects/packages/late_trips/" in google["vertex-serving-condition.yaml"]
    cluster = policies(project, "cluster")
    assert "namespace: ml" in cluster["kubernetes-deployer.yaml"]
    network = yaml.safe_load(cluster["kubernetes-network.yaml"])
    assert network["metadata"] == {"name": "late-trips-staging", "namespace": "ml"}
    labels = {"passerelle.io/project": "late_trips", "passerelle.io/environment": "staging"}
    assert network["spec"]["podSelector"]["matchLabels"] == labels


def test_moto_takes_the_roles(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    texts = policies(project, "aws")
    with mock_aws():
        client = boto3.client("iam")
        for role, file in (("serves", "serving-role"), ("trains", "training-role"), ("deploys", "deployer")):
            client.create_role(RoleName=role, AssumeRolePolicyDocument=texts["sagemaker-trust.json"])
            text = texts[f"sagemaker-{file}.json"]
            client.put_role_policy(RoleName=role, PolicyName="passerelle", PolicyDocument=text)
            assert len(re.sub(r"\s", "", text)) < 10_240, "what a role's own policies may come to"


def azure_lets(condition: str, action: str, path: str, *, container: str = "blobs", listing: bool = False) -> bool:
    """A condition of an assignment, by the grammar of Azure's page "Azure role assignment condition format"."""
    blobs = "Microsoft.Storage/storageAccounts/blobServices/containers"
    words = [
        (r"ActionMatches\{'([^']+)'\}", lambda one: str(one[1] == f"{blobs}/blobs/{action}")),
        (r"SubOperationMatches\{'Blob\.List'\}", lambda _: str(listing)),
        (rf"@Resource\[{blobs}:name\] StringEquals '([^']+)'", lambda one: str(one[1] == container)),
        # Of a list there is no path.
        (
            rf"@Resource\[{blobs}/blobs:path\] StringLike '([^']+)'",
            lambda one: str(not listing and fnmatch.fnmatchcase(path, one[1])),
        ),
        (r"!", lambda _: " not "),
        (r"\b(AND|OR|NOT)\b", lambda one: one[1].lower()),
    ]
    for pattern, said in words:
        condition = re.sub(pattern, said, condition)
    assert set(re.findall(r"\w+", condition)) <= {"True", "False", "and", "or", "not"}, condition
    return bool(eval(f"({condition})"))  # noqa: S307  (those five words)


def google_lets(condition: str, resource: str) -> bool:
    """A condition of a binding: CEL, of the few words that ours have."""
    kind = "Object" if "/objects/" in resource else "Bucket"
    said = yaml.safe_load(condition)["expression"]
    said = re.sub(r'resource\.type == "storage\.googleapis\.com/(\w+)"', lambda one: str(one[1] == kind), said)
    said = re.sub(r'resource\.name\.startsWith\("([^"]+)"\)', lambda one: str(resource.startswith(one[1])), said)
    assert set(re.findall(r"\w+", said)) <= {"True", "False"}, said
    return bool(eval(said.replace("||", " or ")))  # noqa: S307  (True, False and or)


#: What is done to which path → who may: what serves, what trains, or nobody.
DONE = [
    ("read", "packages/late_trips/production/000001-a/deployment.json", "serving"),
    ("write", "packages/late_trips/production/000001-a/deployment.json", None),
    ("write", "ledger/late_trips/production/segments/w0.segment", "serving"),
    ("read", "ledger/late_trips/production/segments/w0.segment", "serving"),
    ("read", "runs/late_trips/run-1/input/project/passerelle.toml", "training"),
    ("write", "runs/late_trips/run-1/input/project/passerelle.toml", None),
    ("write", "runs/late_trips/run-1/output/job.json", "training"),
    ("read", "packages/others/production/000001-a/deployment.json", None),
    ("write", "ledger/others/production/segments/w0.segment", None),
]


@pytest.mark.parametrize(("act", "path", "lets"), DONE)
def test_who_serves_and_who_trains_may_no_more_than_they_do(
    act: str, path: str, lets: str | None, project: Project
) -> None:
    azure, google = policies(project, "azure"), policies(project, "google")
    for who, may in (("serving", lets == "serving"), ("training", lets == "training")):
        condition = azure[f"azureml-{who}-condition.txt"]
        said = [azure_lets(condition, act, f"passerelle/{path}")]
        said += [azure_lets(condition, "add/action", f"passerelle/{path}")] if act == "write" else []
        assert said == [may] * len(said)
        assert not azure_lets(condition, act, f"passerelle/{path}", container="another")
        assert azure_lets(condition, "read", "", listing=True)
        condition = google[f"vertex-{who}-condition.yaml"]
        # Google's condition is one for all of a role's permissions: a folder is read and written, or neither.
        folder = path.partition("/late_trips/")[0]
        assert google_lets(condition, f"projects/_/buckets/acme-models/objects/{path}") == (
            folder in (("packages", "ledger") if who == "serving" else ("runs",))
        )
        assert google_lets(condition, "projects/_/buckets/acme-models")
        assert not google_lets(condition, f"projects/_/buckets/another/objects/{path}")


def test_the_conditions_speak_of_all_that_the_role_grants(project: Project) -> None:
    texts = policies(project, "azure")
    granted = json.loads(texts["azureml-container.json"])["DataActions"]
    for who in ("serving", "training"):
        spoken = set(re.findall(r"ActionMatches\{'([^']+)'\}", texts[f"azureml-{who}-condition.txt"]))
        assert spoken == set(granted), "what no condition speaks of is granted everywhere"


def test_the_verb_writes_them(project: Project) -> None:
    done = CliRunner().invoke(main, ["-C", str(project.root), "target", "policies", "aws"])
    assert done.exit_code == 0, done.output
    written = {path.name: path.read_text() for path in (project.root / "policies").iterdir()}
    assert written == policies(project, "aws")
    assert len(done.output.splitlines()) == len(written)
    for name in ("here", "absent"):
        done = CliRunner().invoke(main, ["-C", str(project.root), "target", "policies", name])
        assert done.exit_code == SettingsError.exit_code
        assert f"no target '{name}' in a cloud" in done.output


def test_a_store_that_is_no_bucket_grants_nothing_of_somebody_elses(project: Project) -> None:
    path = project.root / "passerelle.toml"
    path.write_text(re.sub(r'store = "s3://[^"]*"', 'store = "/mnt/store"', path.read_text()))
    with pytest.raises(SettingsError, match="'/mnt/store', which is no bucket"):
        policies(load_project(path), "aws")


def test_who_has_the_package_has_the_files(tmp_path: Path) -> None:
    """The wheel and the sdist, as they are built for the registry."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (source,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    due = {path.name: path.read_bytes() for path in FILES.iterdir()}
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("passerelle/policies/")]
        assert {Path(name).name: archive.read(name) for name in names} == due
    with tarfile.open(source) as archive:
        inside: Any = [one for one in archive.getmembers() if "/docs/howto/policies/" in one.name]
        assert {Path(one.name).name for one in inside} == set(due)
