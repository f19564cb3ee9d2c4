"""What Vertex AI can express, and what is wanted there: rules, names, weights; pure.

Each rule has a name, which its PlanError carries and docs/howto/vertex.md lists.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

import msgspec

from passerelle.deployment.spec import Deployment, Variant
from passerelle.deployment.target import PlanError
from passerelle.project.targets import Vertex

#: Ours among the labels of what we make.
PREFIX = "passerelle-"
_LONGEST_TIMEOUT_MS = 3_600_000
_LONGEST_NAME = 63
_MOST_LABELS = 50
#: A DeployedModel's id has 1 to 10 digits; five are left for the revision.
_ID_ROOM = 100_000
_WHOLE = 100
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def digest(value: object) -> str:
    """A short mark of a value of JSON: two that differ have different marks."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]


def endpoint_id(project: str, environment: str) -> str:
    """The id of an environment's endpoint, and of its model.

    >>> endpoint_id("late_flights", "production")
    'late-flights-production'
    """
    return f"{project}-{environment}".replace("_", "-")


def deployed_id(revision: int, part: str, settings: object) -> str:
    """A DeployedModel's id, digits only: the revision, then five that tell apart what one revision deploys.

    >>> deployed_id(12, "revision-12-0f0f0f0f", {})[:2], len(deployed_id(12, "revision-12-0f0f0f0f", {}))
    ('12', 7)
    """
    return f"{revision * _ID_ROOM + int(digest([part, settings]), 16) % _ID_ROOM}"


def revision_of(deployed: str) -> int:
    """The revision that first deployed what has this id."""
    return int(deployed) // _ID_ROOM


def percentages(weights: Sequence[float]) -> list[int]:
    """Weights as integers that sum to exactly 100: the largest remainders are rounded up, the earlier of equals first.

    Hare-Niemeyer's method. Vertex AI takes no fractions and no other sum.

    >>> percentages([1 / 3, 1 / 3, 1 / 3])
    [34, 33, 33]
    """
    total = math.fsum(weights)
    shares = [weight / total * _WHOLE for weight in weights]
    floors = [math.floor(share + 1e-9) for share in shares]
    order = sorted(range(len(shares)), key=lambda index: (-round(shares[index] - floors[index], 9), index))
    for index in order[: _WHOLE - sum(floors)]:
        floors[index] += 1
    return floors


def check(deployment: Deployment, settings: Vertex) -> None:
    """Raise PlanError, with the rule's name, for the first thing that Vertex AI cannot express."""
    for rule, broken, message in (*_of_settings(settings), *_of_deployment(deployment, settings)):
        if broken:
            raise PlanError(rule, message)


def _of_settings(settings: Vertex) -> list[tuple[str, bool, str]]:
    scaling = settings.scaling
    registry = f"{settings.region}-docker.pkg.dev/"
    bad_tags = [
        f"{key}={value}"
        for key, value in settings.tags.items()
        if not _LABEL.fullmatch(key) or not _VALUE.fullmatch(value) or key.startswith(PREFIX)
    ]
    reserved = [name for name in settings.variables if name.startswith("AIP_")]
    return [
        (
            "region",
            not re.fullmatch(r"[a-z]+-[a-z]+\d{1,2}", settings.region),
            (
                f"{settings.region!r} is no region: Vertex AI serves in one, such as europe-west1, no multi-region "
                "or a zone."
            ),
        ),
        (
            "image",
            not settings.image.startswith(registry),
            (
                f"the image is {settings.image.partition('@')[0]}: Vertex AI wants it in an Artifact Registry of its "
                f"region; push it to {registry}PROJECT/REPOSITORY/NAME."
            ),
        ),
        (
            "store",
            not settings.store.startswith("gs://"),
            f"the store is {settings.store}: Vertex AI reads a model from Cloud Storage only; name a gs:// folder.",
        ),
        (
            "architecture",
            settings.architecture != "amd64",
            'Vertex AI\'s machines for predictions are amd64: build the image for it, architecture = "amd64".',
        ),
        (
            "scale-to-zero",
            scaling.minimum < 1,
            (
                "scaling.minimum is 0: a Vertex AI endpoint keeps at least one machine (v1); say 1, or remove the "
                "deployment when nobody asks."
            ),
        ),
        (
            "scaling",
            scaling.maximum < scaling.minimum,
            f"scaling.maximum is {scaling.maximum}, below scaling.minimum, {scaling.minimum}: raise it.",
        ),
        (
            "timeout",
            settings.timeout_ms > _LONGEST_TIMEOUT_MS,
            f"timeout_ms is {settings.timeout_ms}: a dedicated endpoint waits an hour, {_LONGEST_TIMEOUT_MS}, at most.",
        ),
        (
            "service-account",
            not re.fullmatch(r"[a-z0-9.-]+@[a-z0-9.-]+\.gserviceaccount\.com", settings.service_account),
            f"service_account is {settings.service_account!r}: give its e-mail, NAME@PROJECT.iam.gserviceaccount.com.",
        ),
        (
            "tags",
            bool(bad_tags) or len(settings.tags) > _MOST_LABELS,
            (
                f"tags {bad_tags or len(settings.tags)}: a label is a letter, then 62 small letters, digits, _ and "
                f"- at most, a value 63; {_MOST_LABELS} of them, none beginning with {PREFIX}."
            ),
        ),
        (
            "variables",
            bool(reserved),
            f"variables {reserved}: AIP_ belongs to Vertex AI, which sets them itself; rename yours.",
        ),
    ]


def _of_deployment(deployment: Deployment, settings: Vertex) -> list[tuple[str, bool, str]]:
    name = endpoint_id(deployment.project, deployment.environment)
    platform = settings.strategy == "platform"
    weights = [round(variant.weight * _WHOLE, 6) for variant in deployment.live]
    return [
        (
            "name",
            len(name) > _LONGEST_NAME or not re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name),
            (
                f"the endpoint would be called {name!r} ({len(name)} characters): Vertex AI takes a small letter, then "
                f"small letters, digits and -, {_LONGEST_NAME} at most, - not last; shorten project.name or the "
                "environment's name."
            ),
        ),
        (
            "revision",
            deployment.revision >= _ID_ROOM,
            (
                f"revision {deployment.revision} has more than five digits, more than a DeployedModel's id can hold: "
                "begin an environment of another name."
            ),
        ),
        (
            "shadow",
            platform and bool(deployment.shadows),
            (
                f"version {[one.version for one in deployment.shadows]} is a shadow, and Vertex AI has none: say "
                'strategy = "container": the container scores it itself.'
            ),
        ),
        (
            "weight",
            platform and any(weight < 1 for weight in weights),
            (
                f"the weights are {weights} %: Vertex AI takes whole percents; give each variant 1 % or more, or say "
                'strategy = "container".'
            ),
        ),
        (
            "ledger",
            deployment.ledger != "off" and deployment.ledger_at is not None and "://" not in deployment.ledger_at,
            (
                f"the ledger lies at {deployment.ledger_at}, a folder that is lost with its machine; name "
                "a gs:// folder."
            ),
        ),
    ]


def part_name(deployment: Deployment, variant: Variant | None, immutable: object) -> str:
    """What a version is called there, as its alias: the container's by its revision, a variant's by its version.

    ``immutable``: all that cannot be changed in it, so that what differs there has another name.
    """
    if variant is None:
        return f"revision-{deployment.revision}-{digest(immutable)[:8]}"
    return f"version-{variant.version}-{digest([variant.digest, immutable])[:8]}"
