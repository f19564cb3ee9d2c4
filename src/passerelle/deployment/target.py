"""Target: where a deployment is applied; the seam, and the values that pass it.

Whoever applies a deployment asks whether it can be at all (``refuse``), what there is (``observe``), then what is to be
done (``plan``), does it step by step
(``apply``), and asks again: what was wanted is compared with what is, so that a roll-back by the platform itself, or a
step that it ignored, is an error and not a surprise. See applying.apply_deployment.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from passerelle.deployment.spec import Deployment
from passerelle.errors import DeploymentError


class PlanError(DeploymentError):
    """The target cannot express this deployment: change what the rule names."""

    exit_code = 3

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{message} (rule {rule})")
        #: The rule's name: docs/deployment.md lists them.
        self.rule = rule
        #: Without the rule's name.
        self.message = message


class TargetError(DeploymentError):
    """The target refused or did not do what was asked: correct what is named, and deploy again."""


class DriftError(TargetError):
    """What is there is not what was wanted: somebody changed it by hand, or the platform rolled it back."""

    exit_code = 3


Kind = str
"""What sort of thing, in the target's own words: "EndpointConfig", "onlineEndpoints/deployments"."""


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is there, or is to be."""

    kind: Kind
    name: str
    #: What is wanted of it, or found: values of JSON, in the target's own words; of what is found only what we set.
    settings: dict[str, Any] = {}
    #: Is it made anew for each revision (False), or changed in place (True)?
    lasting: bool = False


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What there is, as the target says."""

    #: serving: it answers by ``revision``; changing: wait; failed: see ``problem``; absent: there is no endpoint.
    state: Literal["absent", "changing", "serving", "failed"]
    #: The revision that answers; None if none does, or it is not ours.
    revision: int | None = None
    #: What is ours, by our tags or names, whoever made it and however far they came.
    resources: tuple[Resource, ...] = ()
    #: Why it failed, in the target's words.
    problem: str | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do. Doing it twice does no more than doing it once."""

    act: Literal["create", "change", "wait", "delete"]
    resource: Resource
    #: What is there now, of what is changed or deleted.
    before: dict[str, Any] | None = None
    #: In a few words; "" where the act says it.
    why: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done, in order."""

    target: str
    environment: str
    #: The revision that is to answer; None: nothing is to be left.
    revision: int | None
    steps: tuple[Step, ...]
    #: What somebody who accepts the plan should know: how the trial is run, what the platform cannot do.
    notes: tuple[str, ...] = ()


class Target(Protocol):
    """A place where deployments are applied."""

    def refuse(self, deployment: Deployment) -> None:
        """Raise PlanError, by the rule's name, for what the target cannot express, whatever is there.

        Pure: asks nobody, packs nothing. Called before anything is asked of the target, and by ``passerelle check``.
        """

    def observe(self, environment: str) -> Observed:
        """What there is of an environment. Called before each plan, after each apply, and by ``passerelle target``.

        Only asks. Raises TargetError if the target cannot be reached or refuses: which action, on what, and the line of
        policy that grants it.
        """

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        """The steps from what there is to what is wanted; None: to nothing left.

        Pure: asks nobody. What an earlier apply left half done is adopted or deleted, never forgotten. Raises PlanError
        for what the target cannot express, by the rule's name; DriftError for what was changed by hand, if the settings
        say so. Called by ``passerelle deploy``, with and without ``--plan``.
        """

    def apply(self, step: Step) -> None:
        """Take one step, found before it is made; returns when it is done, a wait when what it waits for is there.

        Called for each step in order, and again after a death. Raises TargetError; the steps before it stay taken.
        """


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A training job: the image's ``train``, on what lies at ``input``, which leaves what it made at ``output``."""

    #: The run's key: two jobs of one name are one job.
    name: str
    #: Folders of the target's store.
    input: str
    output: str
    #: Seconds after which it is given up.
    timeout_s: int


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job has come."""

    state: Literal["absent", "running", "succeeded", "failed", "stopped"]
    #: Why it failed, in its own words.
    problem: str | None = None


class Jobs(Protocol):
    """A place where the notebook is run as a job."""

    def start(self, job: Job) -> None:
        """Start the job, unless one of this name is there. Called once for a run, and again after a death."""

    def status(self, name: str) -> JobStatus:
        """How far it has come. Called every few seconds until it has ended. Raises TargetError."""

    def stop(self, name: str) -> None:
        """End it; nothing happens if it has ended. Called when whoever waits is interrupted, or waits too long."""


@runtime_checkable
class Logs(Protocol):
    """A target whose containers' log can be read from here."""

    def logs(self, environment: str, lines: int = 20) -> tuple[str, ...]:
        """The last lines that the containers wrote, oldest first. Raises TargetError.

        Called by ``passerelle target logs``.
        """


@runtime_checkable
class Placed(Protocol):
    """A target whose settings alone do not say where it is: credentials, or kubectl's, do, too."""

    def place(self) -> dict[str, str]:
        """What says where it is besides the settings: "account" or "cluster" → which; empty where that is not known.

        Only asks, and needs no permission. Called before ``observe``, by whoever then refuses another place than the
        last. Raises TargetError.
        """
