"""What Azure ML can express, and how things are called there: rules, names, percentages; pure.

Each rule has a name, which its PlanError carries and docs/howto/azureml.md lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from passerelle.deployment import plan
from passerelle.deployment.spec import Deployment, Variant
from passerelle.deployment.target import PlanError
from passerelle.project.targets import AzureML

#: What addresses in Azure's blob store begin with.
STORES = ("az://", "abfss://")
#: Of our tags.
PREFIX = "passerelle-"
#: The longest that Azure ML waits for a managed deployment's answer.
LONGEST_TIMEOUT_MS = 180_000
MOST_INSTANCES = 50
#: Deployments of one endpoint; one is left for the next revision's.
MOST_DEPLOYMENTS = 20
#: Percent of the requests that may be mirrored.
MOST_MIRRORED = 50
_LONGEST_NAME = 32
_MARK = 8
_WHOLE = 100
_MOST_TAGS, _LONGEST_KEY, _LONGEST_VALUE = 40, 512, 256
_KEY_REFUSED = re.compile(r"[<>%&\\?/]")
_RESERVED = ("AZUREML_", "AML_")


def digest(value: Any) -> str:
    """A short mark of a value of JSON: two that differ have different marks."""
    return plan.digest(value, _MARK)


def endpoint_name(project: str, environment: str) -> str:
    """The name of an environment's endpoint: 3-32 small letters, digits and -; a longer one is cut, and marked.

    >>> endpoint_name("late_flights", "production")
    'late-flights-production'
    >>> endpoint_name("arrival_delays_of_all_flights", "production")
    'arrival-delays-of-all-f-a369c5f0'
    """
    name = re.sub(r"[^a-z0-9]+", "-", f"{project}-{environment}").strip("-")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - _MARK - 1].rstrip('-')}-{digest([project, environment])}"


def deployment_name(deployment: Deployment, variant: Variant | None, fixed: Any) -> str:
    """What answers is called by its revision, or, if the platform routes, its version; ``fixed``: what it is made of.

    What is made of something else has another name: it is made beside, and takes over when it is ready.
    """
    return f"r{deployment.revision}-{digest(fixed)}" if variant is None else f"v{variant.version}-{digest(fixed)}"


def mirrored(shadow: Variant) -> float:
    """Percent of the requests that a shadow is sent: its weight's, or, without a weight, all that Azure ML mirrors."""
    return round(shadow.weight * _WHOLE, 6) if shadow.weight else MOST_MIRRORED


def one_variant(deployment: Deployment, variant: Variant) -> Deployment:
    """A variant as a deployment of its own, for strategy "platform": the same whatever revision it is a part of."""
    alone = msgspec.structs.replace(variant, weight=1.0, mode="live")
    return msgspec.structs.replace(
        deployment,
        revision=variant.version,
        variants=(alone,),
        rolls_back_to=None,
        created_at=deployment.created_at.replace(year=2000, month=1, day=1, hour=0, minute=0, second=0, microsecond=0),
        reason=f"version {variant.version} alone; Azure ML routes",
    )


def check(deployment: Deployment, settings: AzureML) -> None:
    """Raise PlanError, with the rule's name, for the first thing that Azure ML cannot express."""
    plan.refuse_trial(deployment, settings.strategy)
    plan.refuse_scaling(settings.scaling)
    for rule, broken, message in (*_of_settings(settings), *_of_deployment(deployment, settings)):
        if broken:
            raise PlanError(rule, message)


def _of_settings(settings: AzureML) -> Iterator[tuple[str, bool, str]]:
    scaling = settings.scaling
    machines = [one for one in (settings.instance, settings.training_instance) if not one.startswith("Standard_")]
    yield (
        "store",
        not settings.store.startswith(STORES),
        (
            f"the store is {settings.store}: Azure ML mounts a model from Azure's blob store only; name "
            f"az://container/folder "
            "or abfss://container@account.dfs.core.windows.net/folder, in a datastore of the workspace."
        ),
    )
    yield (
        "store-account",
        settings.store.startswith("az://") and "AZURE_STORAGE_ACCOUNT_NAME" not in settings.variables,
        (
            f"the store {settings.store} does not name its account, and the container would not know it: write it as "
            "abfss://, or put AZURE_STORAGE_ACCOUNT_NAME into variables."
        ),
    )
    yield (
        "architecture",
        settings.architecture != "amd64",
        'Azure ML\'s managed machines are amd64: build the image for it, architecture = "amd64".',
    )
    yield (
        "instance",
        bool(machines),
        f"{', '.join(machines)} is no machine of Azure's: Standard_DS2_v2, for example.",
    )
    yield (
        "instances",
        scaling.maximum > MOST_INSTANCES,
        f"scaling.maximum is {scaling.maximum}: a deployment has {MOST_INSTANCES} machines at most.",
    )
    yield (
        "timeout",
        settings.timeout_ms > LONGEST_TIMEOUT_MS,
        f"timeout_ms is {settings.timeout_ms}: Azure ML waits {LONGEST_TIMEOUT_MS} at most.",
    )
    bad = [key for key, value in settings.tags.items() if _bad_tag(key, value)]
    yield (
        "tags",
        bool(bad) or len(settings.tags) > _MOST_TAGS,
        (
            f"tags {bad or len(settings.tags)}: {_MOST_TAGS} at most, keys of {_LONGEST_KEY} characters "
            f"without <>%&\\?/ and "
            f"not beginning with {PREFIX}, values of {_LONGEST_VALUE}."
        ),
    )
    unfit = plan.unfit_variables(settings.variables, _RESERVED)
    yield (
        "variables",
        bool(unfit),
        f"variables {unfit}: letters, digits and _, none that Azure ML or the image sets itself; rename or drop them.",
    )


def _of_deployment(deployment: Deployment, settings: AzureML) -> Iterator[tuple[str, bool, str]]:
    platform = settings.strategy == "platform"
    yield (
        "auth",
        deployment.auth != "platform",
        (
            f'revision {deployment.revision} says auth = "{deployment.auth}": Azure ML\'s gateway always '
            f"asks for its own key "
            'in the header that our tokens need; deploy a revision with auth = "platform".'
        ),
    )
    yield (
        "ledger",
        deployment.ledger != "off" and not (deployment.ledger_at or "").startswith(STORES),
        (
            f"the ledger of revision {deployment.revision} lies at {deployment.ledger_at or 'a folder of its own'}, "
            "which the machine loses or may not write to: name an az:// or abfss:// store and deploy again, or say "
            'ledger = "off".'
        ),
    )
    small = [one.weight for one in deployment.live if round(one.weight * _WHOLE, 6) < 1]
    yield (
        "weight",
        platform and bool(small),
        (
            f"the weights {small} are below 1 %: Azure ML takes whole percents; give each variant 1 % or more, or say "
            'strategy = "container".'
        ),
    )
    yield (
        "shadows",
        platform and len(deployment.shadows) > 1,
        (
            f"versions {[one.version for one in deployment.shadows]} are shadows: Azure ML mirrors to one; "
            f"keep one, or say "
            'strategy = "container".'
        ),
    )
    shares = [mirrored(one) for one in deployment.shadows]
    yield (
        "mirror",
        platform and any(not 1 <= share <= MOST_MIRRORED or share % 1 for share in shares),
        (
            f"the shadow is to get {shares} % of the requests: Azure ML mirrors whole percents, 1 to "
            f"{MOST_MIRRORED}; lower "
            'its weight, or say strategy = "container".'
        ),
    )
    yield (
        "variants",
        platform and len(deployment.variants) > MOST_DEPLOYMENTS // 2,
        (
            f"revision {deployment.revision} has {len(deployment.variants)} variants: an endpoint has "
            f"{MOST_DEPLOYMENTS} "
            f"deployments at most, and the revision before keeps its own; {MOST_DEPLOYMENTS // 2} fit."
        ),
    )


def _bad_tag(key: str, value: str) -> bool:
    return (
        key.lower().startswith(PREFIX)
        or bool(_KEY_REFUSED.search(key))
        or not 0 < len(key) <= _LONGEST_KEY
        or len(value) > _LONGEST_VALUE
    )
