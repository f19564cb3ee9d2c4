"""What Kubernetes cannot express, by the name of each rule, and what things are called there; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from passerelle.deployment.plan import refuse_scaling, unfit_variables
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import PlanError
from passerelle.project.targets import Kubernetes

#: Of our labels and annotations.
PREFIX = "passerelle.io"
_LONGEST_NAME = 50
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ACCOUNT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_WORD}")
_VALUE = re.compile(rf"({_WORD})?")
#: As a cluster writes them back, and how many of a unit make the next: anything else would look like a change by hand.
_AMOUNTS = {
    "cpu": (re.compile(r"(?P<count>[1-9]\d*)(?P<unit>m?)"), 1000, "2, 500m"),
    "memory": (re.compile(r"(?P<count>[1-9]\d*)(?P<unit>Ki|Mi|Gi|Ti)"), 1024, "2Gi"),
}


def endpoint_name(project: str, environment: str) -> str:
    """The name of what is made.

    >>> endpoint_name("late_flights", "production")
    'late-flights-production'
    """
    return re.sub(r"[^a-z0-9-]+", "-", f"{project}-{environment}".lower()).strip("-")


def check(deployment: Deployment, settings: Kubernetes) -> None:
    """Raise PlanError, with the rule's name, for the first thing that Kubernetes cannot express."""
    refuse_scaling(settings.scaling)
    for rule, broken, message in (*_of_settings(settings), *_of_deployment(deployment, settings)):
        if broken:
            raise PlanError(rule, message)


def _of_settings(settings: Kubernetes) -> Iterator[tuple[str, bool, str]]:
    yield (
        "namespace",
        not _NAMESPACE.fullmatch(settings.namespace),
        f"namespace is {settings.namespace!r}: small letters, digits and -, 63 at most; kubectl get namespaces.",
    )
    account = settings.service_account
    yield (
        "service-account",
        account is not None and not _ACCOUNT.fullmatch(account),
        f"service_account is {account!r}: the name of one of the namespace's, small letters, digits, -, .",
    )
    yield (
        "instance",
        bool(settings.instance),
        f"instance is {settings.instance!r}, and pods name no machine: say cpu and memory, and leave it empty.",
    )
    for name, (form, next_unit, example) in _AMOUNTS.items():
        amount = getattr(settings, name)
        found = form.fullmatch(amount)
        yield (
            "quantity",
            found is None or bool(found["unit"] and int(found["count"]) % next_unit == 0),
            (
                f"{name} is {amount!r}, which a cluster would refuse, or write otherwise, as if by hand: say it as "
                f"{example}, in the largest unit that holds it."
            ),
        )
    tags = [
        f"{key}={value}"
        for key, value in settings.tags.items()
        if not _LABEL.fullmatch(key) or not _VALUE.fullmatch(value) or key.startswith(f"{PREFIX}/")
    ]
    yield (
        "tags",
        bool(tags),
        f"tags {tags}: labels are letters, digits, -, _ and ., 63 at most, and none begins with {PREFIX}/.",
    )
    unfit = unfit_variables(settings.variables)
    yield (
        "variables",
        bool(unfit),
        f"variables {unfit}: letters, digits and _, none that the image sets itself; rename or drop them.",
    )


def _of_deployment(deployment: Deployment, settings: Kubernetes) -> Iterator[tuple[str, bool, str]]:
    name = endpoint_name(deployment.project, deployment.environment)
    yield (
        "name",
        len(name) > _LONGEST_NAME,
        (
            f"the endpoint would be called {name} ({len(name)} characters), and {_LONGEST_NAME} are taken, to which "
            "Kubernetes adds: shorten the project's or the environment's name."
        ),
    )
    yield (
        "no-platform-split",
        settings.strategy == "platform",
        (
            f"revision {deployment.revision}: a Service of Kubernetes has no weights and no shadow of its own. Say "
            'strategy = "container".'
        ),
    )
    at = deployment.ledger_at or ""
    yield (
        "ledger",
        deployment.ledger != "off" and "://" not in at and not _on_the_node(at, settings.store),
        (
            f"the ledger of revision {deployment.revision} lies at {at or 'a folder of the pod'}, which goes with the "
            "pod: deploy again, with a store of objects (s3://, gs://, az://)."
        ),
    )


def _on_the_node(at: str, store: str) -> bool:
    """Does a ledger lie in a store that is a folder of each node, which is mounted into the pods?"""
    return store.startswith("/") and at.startswith(f"{store.rstrip('/')}/") and "/../" not in at
