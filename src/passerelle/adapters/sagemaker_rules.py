"""What SageMaker cannot express, by the name of each rule, and what things are called there; pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from passerelle.deployment.plan import refuse_scaling, refuse_trial, unfit_variables
from passerelle.deployment.spec import Deployment, Variant
from passerelle.deployment.target import PlanError
from passerelle.project.settings import Project
from passerelle.project.targets import SageMaker

#: Of every name of SageMaker's; the parts of a revision add "-000001-0a1b2c3d" to the endpoint's.
MOST_NAME = 63
_REVISION_SUFFIX = 16
MOST_TIMEOUT_MS = 60_000
MOST_PAYLOAD_BYTES = 6_291_456
LEAST_WEIGHT = 0.01
MOST_VARIABLES, MOST_VARIABLE, MOST_TAGS, MOST_LIVE = 100, 1024, 50, 10
#: Of the tags and of the variables, some are ours.
_OWN_TAGS, _OWN_VARIABLES = 4, 3
_RESERVED = ("PASSERELLE_", "SAGEMAKER_", "AWS_")
_TAG, _TAG_VALUE = re.compile(r"[\w\s.:/=+\-@]{1,128}"), re.compile(r"[\w\s.:/=+\-@]{0,256}")
#: The tags by which we find what is ours; of an endpoint also the configuration that was last asked for (wanted) and
#: the one that came into service (asked).
PROJECT, ENVIRONMENT, REVISION, ASKED, WANTED = (
    f"passerelle:{what}" for what in ("project", "environment", "revision", "asked", "wanted")
)
#: What is told of a training job that SageMaker itself stopped at its limit.
TIME_OVER = (
    "NotebookError: its time was over, and SageMaker stopped it: raise notebook.timeout_s in passerelle.toml if its "
    "cells need longer, else find the one that hangs; then passerelle train --again."
)
_REVISION = re.compile(r"(\d{6})-[0-9a-f]{8,12}(\.tar\.gz)?$")
_ECR = re.compile(r"\d{12}\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/.+")
_GRAVITON = re.compile(r"ml\.[a-z]+\d+[a-z]*g[a-z]*\.")


def endpoint_name(project: str, environment: str) -> str:
    """What the endpoint of an environment is called: SageMaker takes letters, digits and hyphens.

    >>> endpoint_name("late_flights", "production")
    'late-flights-production'
    """
    return f"{project}-{environment}".replace("_", "-").strip("-")


def job_name(project: str, name: str) -> str:
    """What a training job is called.

    >>> job_name("flights", "2013-02-01_a")
    'flights-2013-02-01-a'
    """
    legal = re.sub(r"[^a-zA-Z0-9]+", "-", f"{project}-{name}").strip("-")
    if len(legal) > MOST_NAME:
        raise PlanError("name", f"a training job cannot be called {legal}: SageMaker takes {MOST_NAME} characters.")
    return legal


def own_reason(reason: str | None) -> str | None:
    """Why a training job failed, as our own container said it: without what SageMaker writes around that.

    >>> own_reason("AlgorithmError: NotebookError: cell 2 of 9 raised KeyError, exit code: 1")
    'NotebookError: cell 2 of 9 raised KeyError'
    """
    if reason is None:
        return None
    return re.sub(r", exit code: -?\d+$", "", reason.removeprefix("AlgorithmError: "))


def revision_of(name: str) -> int | None:
    """The revision that a resource was made for; None for one that stays from revision to revision.

    >>> revision_of("trips-production-000002-0a1b2c3d"), revision_of("trips-production")
    (2, None)
    """
    found = _REVISION.search(name)
    return int(found[1]) if found else None


def architecture_of(instance: str) -> str:
    """The processor of an instance type: arm64 where its family has a g behind the generation (Graviton), else amd64.

    >>> architecture_of("ml.m7g.large"), architecture_of("ml.g5.xlarge"), architecture_of("ml.c6gn.large")
    ('arm64', 'amd64', 'arm64')
    """
    return "arm64" if _GRAVITON.match(instance) else "amd64"


def variant_names(deployment: Deployment) -> dict[str, Variant]:
    """Name of each platform variant → the variant; the champion's stays "live", as a guarded update demands."""
    champion = deployment.champion
    return {
        "live" if one is champion else "shadow" if one.mode == "shadow" else f"version-{one.version}": one
        for one in deployment.variants
    }


def check(
    deployment: Deployment,
    settings: SageMaker,
    project: Project,
    *,
    instances: Collection[str],
    training_instances: Collection[str],
    in_service: Collection[str],
) -> None:
    """Raise PlanError by the rule's name. ``in_service``: the names of the variants that answer now, if any.

    ``instances``, ``training_instances``: those that SageMaker's interface description knows.
    """
    _check_machines(settings, instances, training_instances)
    _check_settings(settings, project)
    _check_scaling(settings)
    _check_variables(settings)
    refuse_trial(deployment, settings.strategy)
    name = endpoint_name(deployment.project, deployment.environment)
    if len(name) + _REVISION_SUFFIX > MOST_NAME:
        raise PlanError(
            "name",
            f"the endpoint would be called {name} ({len(name)} characters), and SageMaker takes {MOST_NAME} for a "
            f"name, of which the revision needs {_REVISION_SUFFIX}: shorten the project's or the environment's.",
        )
    if deployment.auth != "platform":
        raise PlanError(
            "auth",
            f"revision {deployment.revision} asks for tokens, and SageMaker passes no header of the caller's on: who "
            "may ask is decided by IAM. Deploy again: a new revision says so.",
        )
    if deployment.ledger != "off" and not (deployment.ledger_at or "").startswith("s3://"):
        raise PlanError(
            "ledger",
            f"the ledger of revision {deployment.revision} would be kept at {deployment.ledger_at or 'the machine'}, "
            "which goes with the machine: deploy again, with a store on s3://.",
        )
    if settings.strategy == "platform":
        _check_platform(deployment)
    names = set(variant_names(deployment)) if settings.strategy == "platform" else {"live"}
    if settings.canary_percent is not None and in_service and set(in_service) != names:
        raise PlanError(
            "guarded-variants",
            f"a guarded update keeps the variants' names, and {', '.join(sorted(in_service))} would become "
            f"{', '.join(sorted(names))}: leave canary_percent out for this change.",
        )


def _check_machines(settings: SageMaker, instances: Collection[str], training_instances: Collection[str]) -> None:
    for instance, known in ((settings.instance, instances), (settings.training_instance, training_instances)):
        if instance not in known:
            raise PlanError(
                "instance", f"SageMaker has no instance {instance!r}: ml.m5.large, for one; or update boto3."
            )
    check_processor(settings.instance, settings)


def check_processor(instance: str, settings: SageMaker) -> None:
    """Raise PlanError (rule architecture) for a machine that cannot run the image: one that answers, or that trains.

    Asked of what trains when a job is to start only: SageMaker trains on amd64, and may answer on arm64 all the same.
    """
    if (built := architecture_of(instance)) != settings.architecture:
        raise PlanError(
            "architecture",
            f"{instance} has a processor of {built}, and the image, which serves and trains, is built for "
            f"{settings.architecture}: take another instance, or build the image for it and say architecture.",
        )


def _check_settings(settings: SageMaker, project: Project) -> None:
    if not settings.store.startswith("s3://"):
        raise PlanError("store", f"SageMaker reads models from S3 only, and store is {settings.store}: name s3://...")
    if (found := _ECR.match(settings.image)) is None:
        raise PlanError(
            "image",
            f"SageMaker pulls images from ECR, and {settings.image} is not there: passerelle image, push it to "
            "<account>.dkr.ecr.<region>.amazonaws.com/<repository>, and name it by its digest.",
        )
    if found[1] != settings.region:
        raise PlanError(
            "image",
            f"the image is in region {found[1]}, the endpoint in {settings.region}, and SageMaker pulls from its own "
            "only: push the image there, or correct region.",
        )
    if settings.timeout_ms > MOST_TIMEOUT_MS:
        raise PlanError(
            "timeout",
            f"timeout_ms is {settings.timeout_ms}, and SageMaker gives a request {MOST_TIMEOUT_MS}: take less.",
        )
    if project.serving.max_body_bytes > MOST_PAYLOAD_BYTES:
        raise PlanError(
            "payload",
            f"[serving] max_body_bytes is {project.serving.max_body_bytes}, SageMaker takes {MOST_PAYLOAD_BYTES} in "
            "a request: lower it, and send larger files through passerelle score.",
        )
    if settings.alarms.notify is not None and not re.match(r"arn:aws[a-z-]*:sns:", settings.alarms.notify):
        raise PlanError(
            "notify", f"CloudWatch sends to SNS topics, and alarms.notify is {settings.alarms.notify!r}: name an ARN."
        )


def _check_scaling(settings: SageMaker) -> None:
    scaling, alarms = settings.scaling, settings.alarms
    refuse_scaling(scaling)
    if settings.canary_percent is not None and alarms.error_share is None and alarms.latency_ms is None:
        raise PlanError(
            "canary-alarms",
            "canary_percent is set and there is no alarm that could roll it back: set alarms.error_share or "
            "latency_ms, or leave canary_percent out.",
        )
    if settings.canary_percent is not None and scaling.minimum * settings.canary_percent < 100:  # noqa: PLR2004  (percent)
        raise PlanError(
            "canary-machines",
            f"{settings.canary_percent} % of {scaling.minimum} machines is less than one: raise scaling.minimum (2 "
            "with canary_percent = 50), or leave canary_percent out.",
        )
    if settings.canary_percent is not None and settings.instance.startswith("ml.inf1."):
        raise PlanError(
            "canary-inf1",
            f"canary_percent is set, and SageMaker changes machines of {settings.instance} all at once only: take "
            "ml.inf2, or leave canary_percent out.",
        )


def _check_variables(settings: SageMaker) -> None:
    unfit = unfit_variables(settings.variables, _RESERVED)
    longest = max((len(text) for pair in settings.variables.items() for text in pair), default=0)
    most = MOST_VARIABLES - _OWN_VARIABLES
    if unfit or longest > MOST_VARIABLE or len(settings.variables) > most:
        wrong = ", ".join(map(repr, sorted(unfit))) or f"{len(settings.variables)}, of up to {longest} characters"
        raise PlanError(
            "variables",
            f"variables cannot be set so ({wrong}): at most {most} of {MOST_VARIABLE} characters each, of letters, "
            "digits and _, and PASSERELLE_, SAGEMAKER_ and AWS_ are not yours.",
        )
    bad_tags = [
        key
        for key, value in settings.tags.items()
        if key.lower().startswith(("aws:", "passerelle:")) or not (_TAG.fullmatch(key) and _TAG_VALUE.fullmatch(value))
    ]
    if bad_tags or len(settings.tags) + _OWN_TAGS > MOST_TAGS:
        wrong = ", ".join(map(repr, bad_tags)) or f"{len(settings.tags)} of them"
        raise PlanError(
            "tags",
            f"tags cannot be set so ({wrong}): {MOST_TAGS - _OWN_TAGS} at most, of up to 128 characters and values of "
            "256, of letters, digits, spaces and _.:/=+-@, without aws: and ours.",
        )


def _check_platform(deployment: Deployment) -> None:
    shadows, live = deployment.shadows, deployment.live
    if len(shadows) > 1:
        raise PlanError("shadows", f"SageMaker shadows one variant, and revision {deployment.revision} two or more.")
    if shadows and len(live) > 1:
        raise PlanError(
            "shadow-and-split",
            f"SageMaker shadows beside one live variant, and revision {deployment.revision} has {len(live)}: deploy "
            'one of them, or say strategy = "container".',
        )
    if len(live) > MOST_LIVE:
        raise PlanError("variants", f"SageMaker takes {MOST_LIVE} variants, and {len(live)} are to answer.")
    if small := [one for one in live if one.weight < LEAST_WEIGHT]:
        raise PlanError(
            "weight",
            f"version {small[0].version} is to answer {small[0].weight:.3%}: 1 % is the least that is told apart.",
        )
