"""What Vertex AI can express, and what is wanted there: rules, names; pure.

Each rule has a name, which its PlanError carries and docs/howto/vertex.md lists.
"""

from __future__ import annotations

import re

from passerelle.deployment import plan
from passerelle.deployment.spec import Deployment, Variant
from passerelle.deployment.target import PlanError
from passerelle.project.settings import Project
from passerelle.project.targets import Vertex

#: Ours among the labels of what we make.
PREFIX = "passerelle-"
_LONGEST_TIMEOUT_MS = 3_600_000
#: Of a request to a dedicated endpoint: 10 MB.
_LARGEST_BODY_BYTES = 10_000_000
_LONGEST_NAME = 63
_MOST_LABELS = 50
#: A DeployedModel's id has 1 to 10 digits; five are left for the revision.
_ID_ROOM = 100_000
_WHOLE = 100
_PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]*[a-z0-9]|[0-9]+")
_MACHINE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def digest(value: object) -> str:
    """A short mark of a value of JSON: two that differ have different marks."""
    return plan.digest(value, 16)


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


def check(deployment: Deployment, settings: Vertex, project: Project) -> None:
    """Raise PlanError, with the rule's name, for the first thing that Vertex AI cannot express."""
    plan.refuse_trial(deployment, settings.strategy)
    plan.refuse_scaling(settings.scaling)
    for rule, broken, message in (*_of_settings(settings, project), *_of_deployment(deployment, settings)):
        if broken:
            raise PlanError(rule, message)


def _of_settings(settings: Vertex, project: Project) -> list[tuple[str, bool, str]]:
    registry = f"{settings.region}-docker.pkg.dev/"
    bad_tags = [
        f"{key}={value}"
        for key, value in settings.tags.items()
        if not _LABEL.fullmatch(key) or not _VALUE.fullmatch(value) or key.startswith(PREFIX)
    ]
    unfit = plan.unfit_variables(settings.variables, ("AIP_",))
    machines = [one for one in (settings.instance, settings.training_instance) if not _MACHINE.fullmatch(one)]
    return [
        (
            "project",
            not _PROJECT.fullmatch(settings.project),
            (
                f"{settings.project!r} is no project's id: small letters, digits and -, as gcloud projects list shows "
                "under PROJECT_ID."
            ),
        ),
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
            "timeout",
            settings.timeout_ms > _LONGEST_TIMEOUT_MS,
            f"timeout_ms is {settings.timeout_ms}: a dedicated endpoint waits an hour, {_LONGEST_TIMEOUT_MS}, at most.",
        ),
        (
            "payload",
            project.serving.max_body_bytes > _LARGEST_BODY_BYTES,
            (
                f"[serving] max_body_bytes is {project.serving.max_body_bytes}, and a dedicated endpoint takes "
                f"{_LARGEST_BODY_BYTES}: lower it, and send larger files through passerelle score."
            ),
        ),
        (
            "instance",
            bool(machines),
            f"{', '.join(machines)} is no machine of Google's: n1-standard-2, for example.",
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
            bool(unfit),
            (
                f"variables {unfit}: letters, digits and _, none that the image sets itself, and AIP_ is Vertex AI's; "
                "rename or drop them."
            ),
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
            "auth",
            deployment.auth != "platform",
            (
                f"revision {deployment.revision} asks for tokens, and Google's gateway decides who may ask: deploy "
                "again, a new revision says so."
            ),
        ),
        (
            "ledger",
            deployment.ledger != "off" and not (deployment.ledger_at or "").startswith("gs://"),
            (
                f"the ledger of revision {deployment.revision} lies at {deployment.ledger_at or 'a folder of its own'}"
                ", which the machine loses or may not write to: name a gs:// store and deploy again."
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
