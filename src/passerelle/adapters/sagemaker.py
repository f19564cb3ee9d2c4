"""SageMaker: a deployment as a real-time endpoint, the notebook as a training job, by boto3.

A revision is a package on S3 (model.tar.gz), a model package of the endpoint's group, a model and an endpoint
configuration, all made once and never changed; the endpoint is moved from one configuration to the next, by canary with
alarms that roll it back if the settings say so. The configuration that is really in service tells which revision
answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from passerelle.adapters import sagemaker_rules as rules
from passerelle.adapters.sagemaker_calls import Calls
from passerelle.adapters.sagemaker_found import Look, log_lines
from passerelle.adapters.sagemaker_steps import Steps
from passerelle.adapters.sagemaker_wanted import CONFIG, ENDPOINT, SCALING, guarded, package_folder, tags_of, wanted
from passerelle.deployment.package import Package
from passerelle.deployment.plan import refuse_drift, steps
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import DriftError, Job, JobStatus, Observed, Plan, Resource, Step, TargetError
from passerelle.project.settings import Project
from passerelle.project.targets import SageMaker

_JOB_DISK_GB = 30
_STATES = {"InProgress": "running", "Stopping": "running", "Completed": "succeeded", "Stopped": "stopped"}


class SageMakerTarget:
    """An account's region, for one project. Implements Target, Jobs and Placed.

    ``pack`` packs a revision (see deployment.package); ``every_s`` is between two looks at what changes.
    """

    def __init__(
        self,
        name: str,
        settings: SageMaker,
        project: Project,
        *,
        pack: Callable[[Deployment], Package],
        every_s: float = 15.0,
    ) -> None:
        self.name = name
        self._settings, self._project, self._pack = settings, project, pack
        self._calls = Calls(settings.region)
        self._packages: dict[str, Package] = {}
        self._steps = Steps(self._calls, self._packages, every_s)

    def refuse(self, deployment: Deployment, in_service: Collection[str] = ()) -> None:
        """See Target. ``in_service``: the names of the variants that answer now, if any."""
        rules.check(
            deployment,
            self._settings,
            self._project,
            instances=self._calls.types("ProductionVariantInstanceType"),
            training_instances=self._calls.types("TrainingInstanceType"),
            in_service=in_service,
        )

    def place(self) -> dict[str, str]:
        """See Placed: the account that the credentials are of. AWS answers that to whoever has some."""
        return {"account": self._calls.call("sts", "GetCallerIdentity", "the credentials")["Account"]}

    def observe(self, environment: str) -> Observed:
        """See Target."""
        return Look(self._calls, self._settings, self._project.name, environment).observed()

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        """See Target. Packs the revision, in the project's state folder; asks nobody."""
        if deployment is None:
            return Plan(
                target=self.name,
                environment=_environment(observed),
                revision=None,
                steps=steps((), observed.resources, waits=(ENDPOINT,), changing=observed.state == "changing"),
                notes=(
                    "Left where they are: the ledger in the store and the endpoint's log in CloudWatch.",
                    "Left: the training jobs that have ended; AWS deletes none, and they cost nothing.",
                ),
            )
        there = list(observed.resources)
        self.refuse(deployment, _variants_in_service(observed))
        resources = wanted(deployment, self._settings, self._packed(deployment))
        self._refuse_other_config(resources, observed)
        refuse_drift(resources, there, drift=self._settings.drift)
        if observed.state in ("failed", "changing"):  # whatever it was asked for, it is to be asked anew
            there = [_unasked(one) if one.kind == ENDPOINT else one for one in there]
        return Plan(
            target=self.name,
            environment=deployment.environment,
            revision=deployment.revision,
            steps=self._ordered(deployment, resources, there, observed),
            notes=self._notes(deployment),
        )

    def apply(self, step: Step) -> None:
        """See Target."""
        self._steps.take(step)

    def _packed(self, deployment: Deployment) -> dict[str, str]:
        """Packs what each platform variant answers by; name of the variant → name of its package."""
        by_variant = {"live": deployment}
        if self._settings.strategy == "platform":
            by_variant = {
                name: msgspec.structs.replace(
                    deployment, variants=(msgspec.structs.replace(one, weight=1.0, mode="live"),)
                )
                for name, one in rules.variant_names(deployment).items()
            }
        folder = package_folder(self._settings, deployment.project, deployment.environment)
        packages = {name: self._pack(one) for name, one in by_variant.items()}
        self._packages.update({f"{folder}{one.name}.tar.gz": one for one in packages.values()})
        return {name: one.name for name, one in packages.items()}

    def _ordered(
        self, deployment: Deployment, resources: list[Resource], there: list[Resource], observed: Observed
    ) -> tuple[Step, ...]:
        previous = _previous(deployment, observed)

        def planned(found: list[Resource]) -> tuple[Step, ...]:
            return steps(
                resources,
                found,
                keep=lambda one: not one.lasting and rules.revision_of(one.name) == previous,
                waits=(ENDPOINT,),
                changing=observed.state == "changing",
            )

        made = planned(there)
        moved = [number for number, step in enumerate(made) if step.resource.kind == ENDPOINT and step.act != "wait"]
        if not moved:
            return made
        # Scaling is taken off before the endpoint changes, and put on again after.
        scaling = [one for one in there if one.kind == SCALING]
        made = planned([one for one in there if one.kind != SCALING])
        first = next(
            number for number, step in enumerate(made) if step.resource.kind == ENDPOINT and step.act != "wait"
        )
        off = [
            Step(act="delete", resource=one, before=one.settings, why="until the endpoint has changed")
            for one in scaling
        ]
        endpoint = next(one for one in resources if one.kind == ENDPOINT)
        full = msgspec.structs.replace(endpoint, settings=endpoint.settings | guarded(self._settings, resources))
        # Of an endpoint that is rolled back, what scaled it is put on again, too.
        kept = scaling or [one for one in resources if one.kind == SCALING]
        back = {"scaling": {one.name: one.settings for one in kept if "TargetValue" in one.settings}}
        waited = msgspec.structs.replace(endpoint, settings=endpoint.settings | back)
        after = [
            msgspec.structs.replace(step, resource=waited if step.act == "wait" else full)
            if step.resource.kind == ENDPOINT
            else step
            for step in made[first:]
        ]
        return (*made[:first], *off, *after)

    def _refuse_other_config(self, resources: list[Resource], observed: Observed) -> None:
        """Raise DriftError if somebody moved the endpoint to another configuration, and drift is refused."""
        found = [one.settings for one in observed.resources if one.kind == ENDPOINT]
        if self._settings.drift == "restore" or not found or observed.state == "changing":
            return
        config, asked = found[0]["EndpointConfigName"], found[0]["asked"]
        due = next(one.settings["EndpointConfigName"] for one in resources if one.kind == ENDPOINT)
        foreign = observed.revision is None and asked is not None
        if config != asked and (foreign or asked == due):
            raise DriftError(
                f"the endpoint answers by {config}, and Passerelle left it answering by {asked}: somebody changed it "
                'by hand. No setting keeps that: to have it put back, say drift = "restore" for this target.'
            )

    def _notes(self, deployment: Deployment) -> tuple[str, ...]:
        settings, count = self._settings, len(deployment.variants)
        machines = f"{settings.scaling.minimum} x {settings.instance}"
        if settings.strategy == "platform":
            return (
                f"{machines} run, and are paid for, for each of {count} variants until the target is removed.",
                "SageMaker draws a variant per request, not per unit, and pairs no shadow: no verdict can be had.",
                "A revision that only moves weights changes all machines, too: they hold the revision's package.",
            )
        notes = [f"{machines} run, and are paid for, until the target is removed."]
        if count > 1:
            notes.append(
                f"One platform variant holds all {count} versions: its container routes by unit and shadows, as the "
                "revision says; SageMaker sees one model."
            )
        if settings.canary_percent is not None:
            notes.append(
                "While a revision changes, two sets of machines run side by side. The canary guards the change; it "
                "gives no verdict."
            )
        return tuple(notes)

    def start(self, job: Job) -> None:
        """See Jobs: the image's ``train`` on what lies at ``input``; what it leaves is packed below ``output``.

        Raises PlanError (rule architecture) for a machine that cannot run the image.
        """
        name, settings = rules.job_name(self._project.name, job.name), self._settings
        tags = tags_of(settings, self._project.name, settings.environment)
        if (found := self._describe_job(name)) is not None:
            self._refuse_clash(name, found["TrainingJobArn"])
            return
        rules.check_processor(settings.training_instance, settings)
        source = {"S3DataType": "S3Prefix", "S3Uri": job.input, "S3DataDistributionType": "FullyReplicated"}
        self._calls.call(
            "sagemaker",
            "CreateTrainingJob",
            self._job_arn(name),
            TrainingJobName=name,
            AlgorithmSpecification={"TrainingImage": settings.image, "TrainingInputMode": "File"},
            RoleArn=settings.training_role or settings.role,
            InputDataConfig=[{"ChannelName": "input", "DataSource": {"S3DataSource": source}}],
            OutputDataConfig={"S3OutputPath": job.output},
            ResourceConfig={
                "InstanceType": settings.training_instance,
                "InstanceCount": 1,
                "VolumeSizeInGB": _JOB_DISK_GB,
            },
            StoppingCondition={"MaxRuntimeInSeconds": job.timeout_s},
            Environment=settings.variables,
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )

    def status(self, name: str) -> JobStatus:
        """See Jobs."""
        found = self._describe_job(rules.job_name(self._project.name, name))
        if found is None:
            return JobStatus(state="absent")
        if found.get("SecondaryStatus") == "MaxRuntimeExceeded":  # stopped by SageMaker itself, while nobody waited
            return JobStatus(state="failed", problem=rules.TIME_OVER)
        state: Any = _STATES.get(found["TrainingJobStatus"], "failed")
        return JobStatus(state=state, problem=rules.own_reason(found.get("FailureReason")))

    def stop(self, name: str) -> None:
        """See Jobs."""
        job = rules.job_name(self._project.name, name)
        found = self._describe_job(job)
        if found is not None and found["TrainingJobStatus"] == "InProgress":  # AWS refuses it for one that is stopping
            self._calls.ask("sagemaker", "StopTrainingJob", self._job_arn(job), TrainingJobName=job)

    def logs(self, environment: str, lines: int = 20) -> tuple[str, ...]:
        """The last lines that the endpoint's containers wrote, oldest first; empty if they wrote none yet."""
        return log_lines(self._calls, rules.endpoint_name(self._project.name, environment), lines)

    def _refuse_clash(self, name: str, arn: str) -> None:
        """Raise TargetError for a job of our name that is another project's."""
        found = self._calls.pages("sagemaker", "ListTags", arn, "Tags", ResourceArn=arn)
        if {"Key": rules.PROJECT, "Value": self._project.name} not in list(found):
            raise TargetError(
                f"there is a training job {name} that is not of project {self._project.name!r}, and AWS keeps a job's "
                "name for ever: rename the project."
            )

    def _job_arn(self, name: str) -> str:
        return f"arn:aws:sagemaker:{self._calls.region}:*:training-job/{name}"

    def _describe_job(self, name: str) -> dict[str, Any] | None:
        return self._calls.ask("sagemaker", "DescribeTrainingJob", self._job_arn(name), TrainingJobName=name)


def _environment(observed: Observed) -> str:
    tags = (one.settings.get("tags", {}) for one in observed.resources)
    return next((one[rules.ENVIRONMENT] for one in tags if rules.ENVIRONMENT in one), "")


def _variants_in_service(observed: Observed) -> list[str]:
    configs = [one.settings.get("EndpointConfigName") for one in observed.resources if one.kind == ENDPOINT]
    return [
        variant["VariantName"]
        for one in observed.resources
        if one.kind == CONFIG and one.name in configs
        for key in ("ProductionVariants", "ShadowProductionVariants")
        for variant in one.settings.get(key, [])
    ]


def _unasked(endpoint: Resource) -> Resource:
    return msgspec.structs.replace(endpoint, settings=endpoint.settings | {"asked": None})


def _previous(deployment: Deployment, observed: Observed) -> int | None:
    """The revision to roll back to: the one that answers, or the newest before the wanted one."""
    if observed.revision is not None and observed.revision != deployment.revision:
        return observed.revision
    numbers = [number for one in observed.resources if (number := rules.revision_of(one.name)) is not None]
    return max((number for number in numbers if number < deployment.revision), default=None)
