"""Targets: the [targets.NAME] sections of passerelle.toml, one for each place where a deployment is applied."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import SettingsError
from passerelle.project.slips import in_words, nearest, refuse_unknown

#: An image, by its digest: what was pushed is what is run, whatever a tag says later.
Image = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$",
        description="an image by its digest, <repository>@sha256:<64 digits>, never a tag: push it, as passerelle "
        "image --push does, and take the digest that the registry gave it",
    ),
]
#: A folder of an object store, for artefacts and for the ledger.
Store = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(s3|gs|az|abfss)://[^\s]+[^/\s]$|^/.+",
        description="a folder of an object store, without / at its end: s3://bucket/folder, gs://, az://, abfss://; or "
        "one that all machines mount, /mnt/store",
    ),
]
#: The ARN of a role of AWS.
Role = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$",
        description="the ARN of a role of AWS: arn:aws:iam::<12 digits>:role/<name>",
    ),
]
_NAME = r"^[a-z][a-z0-9_-]{0,62}$"
_NAMING = "a name of small letters, digits, _ and -, 63 at most, a letter first"
Environment = Annotated[str, msgspec.Meta(pattern=_NAME, description=_NAMING)]
Strategy = Literal["container", "platform"]


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[targets.NAME.scaling]: how many machines answer."""

    #: The fewest machines; a cloud's real-time endpoint cannot scale to 0.
    minimum: Annotated[int, msgspec.Meta(ge=0)] = 1
    #: The most; the fewest itself: no scaling.
    maximum: Annotated[int, msgspec.Meta(ge=1)] = 1
    #: Requests a minute that one machine is to answer; more are started above it.
    requests_per_minute: Annotated[int, msgspec.Meta(ge=1)] = 600


class Alarms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[targets.NAME.alarms]: rules of the platform itself, beside Passerelle's own; None: none."""

    #: Share of the requests that fail, above which the platform's alarm fires.
    error_share: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = 0.01
    #: Milliseconds that the 99th (where the platform has none: the 95th) percentile may take.
    latency_ms: Annotated[int, msgspec.Meta(ge=1)] | None = 1000
    #: Where the platform sends its alarm: an SNS topic's ARN, an action group's or a notification channel's id.
    notify: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every target says."""

    #: The environment whose revisions are applied here.
    environment: Environment = "production"
    #: What to do with what somebody changed by hand: refuse to go on, or put it back.
    drift: Literal["refuse", "restore"] = "refuse"


class Local(Target, tag="local", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kind = "local": endpoints of this machine; the reference implementation."""


class Cloud(Target, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every cloud's target says."""

    #: Of the image that ``passerelle image`` builds, by digest; it serves and trains.
    image: Image
    #: Where artefacts and the ledger are kept.
    store: Store
    #: Of the machines.
    instance: str
    #: The processor that the image is built for.
    architecture: Literal["amd64", "arm64"] = "amd64"
    scaling: Scaling = Scaling()
    alarms: Alarms = Alarms()
    #: "container": one platform variant, whose container routes and shadows by the deployment, so that trials are per
    #: unit and paired; "platform": the platform's own weights and shadow, for canaries without a verdict.
    strategy: Strategy = "container"
    #: Milliseconds that a request may take.
    timeout_ms: Annotated[int, msgspec.Meta(ge=1)] = 30_000
    #: Added to what is created, besides Passerelle's own.
    tags: dict[str, str] = {}
    #: Variables of the container: no secrets, they can be read by whoever may describe the endpoint.
    variables: dict[str, str] = {}


class SageMaker(Cloud, tag="sagemaker", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kind = "sagemaker"."""

    region: str
    #: The ARN of the role that the endpoint runs under: it reads packages and writes the ledger.
    role: Role
    #: That of the training job, which writes what is sealed next; None: the endpoint's, which may then write it, too.
    training_role: Role | None = None
    #: The share of a canary's capacity that changes first, and the seconds before the rest; None: all at once.
    canary_percent: Annotated[int, msgspec.Meta(ge=1, le=50)] | None = None
    canary_wait_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 300
    #: The machine that trains.
    training_instance: str = "ml.m5.xlarge"


class AzureML(Cloud, tag="azureml", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kind = "azureml"."""

    subscription: str
    resource_group: str
    workspace: str
    location: str
    #: The resource id of the identity that the container runs under, which reads and writes the store; None: one that
    #: Azure makes with the endpoint, and that may not write there until somebody allows it.
    identity: str | None = None
    #: The resource id of the identity that a training job runs under, one of its compute's; None: as the compute says.
    training_identity: str | None = None
    #: The compute that trains; None: serverless, on a machine of ``training_instance``.
    training_compute: str | None = None
    training_instance: str = "Standard_DS3_v2"


class Vertex(Cloud, tag="vertex", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kind = "vertex"."""

    project: str
    region: str
    #: The service account that the endpoint runs under: it reads packages and writes the ledger.
    service_account: str
    #: That of the training job, which writes what is sealed next; None: the endpoint's, which may then write it, too.
    training_service_account: str | None = None
    #: The machine that trains.
    training_instance: str = "n1-standard-4"


class Kubernetes(Cloud, tag="kubernetes", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """kind = "kubernetes": manifests, applied by kubectl or whatever applies manifests for you."""

    #: The cluster, by the name that kubectl's settings give it; None: kubectl's current one, whichever that is.
    context: str | None = None
    namespace: str = "default"
    #: Deployment, Service and HorizontalPodAutoscaler, or KServe's InferenceService.
    form: Literal["deployment", "kserve"] = "deployment"
    #: The service account of the pods: it reads and writes the store.
    service_account: str | None = None
    #: Does an ingress or a mesh in front check who asks? Else the endpoint asks for tokens of ours.
    gateway: bool = False
    #: Of each pod, in Kubernetes' words.
    cpu: str = "1"
    memory: str = "2Gi"
    instance: str = ""


AnyTarget = Local | SageMaker | AzureML | Vertex | Kubernetes


_KINDS: dict[str, type[Target]] = {str(one.__struct_config__.tag): one for one in get_args(AnyTarget)}


def refuse_targets(sections: Any, path: Path) -> None:
    """Raise SettingsError for the first [targets.NAME] that is none, naming target, key and value."""
    for name, section in sections.items() if isinstance(sections, dict) else ():
        place = f"targets.{name}"
        if re.fullmatch(_NAME, name) is None:
            raise SettingsError(f"{path}: [{place}]: {name!r} is not {_NAMING}. Rename it.")
        if not isinstance(section, dict):
            raise SettingsError(f"{path}: {place} is {section!r}: write a section, [{place}].")
        kind = section.get("kind")
        if kind not in _KINDS:
            said = f"has the kind {kind!r}{nearest(str(kind), _KINDS)}" if kind else f"has no kind{nearest('', _KINDS)}"
            raise SettingsError(f"{path}: {place} {said}. Correct it and run the command again.")
        refuse_unknown({key: value for key, value in section.items() if key != "kind"}, _KINDS[kind], place, path)
        try:
            msgspec.convert(section, prepared(_KINDS[kind]))
        except msgspec.ValidationError as error:
            said = _given(error, section) + in_words(error, _KINDS[kind], place)
            raise SettingsError(f"{path}: {said}. Correct it and run the command again.") from error


def _given(error: msgspec.ValidationError, section: Any) -> str:
    """The value that is wrong, where msgspec does not say it."""
    place = str(error).partition(" - at `$.")[2].rstrip("`")
    value = section
    for key in place.split(".") if place else ():
        value = value.get(key) if isinstance(value, dict) else None
    return f"{value!r}: " if place and value is not None and "Invalid enum" not in str(error) else ""
