"""Manifests of a deployment on Kubernetes: pure. Deployment, Service and autoscaler, or KServe's InferenceService."""

from __future__ import annotations

from typing import Any

from passerelle.adapters.kubernetes_rules import PREFIX, endpoint_name
from passerelle.deployment.plan import mark
from passerelle.deployment.spec import Deployment, told
from passerelle.deployment.target import Resource
from passerelle.project.targets import Kubernetes

REVISION = f"{PREFIX}/revision"
#: What was asked for, as JSON: what is found is compared with it, field by field.
ASKED = f"{PREFIX}/asked"
#: The revision that answered last, before what is going on now.
ANSWERS = f"{PREFIX}/answers"
RETRY = f"{PREFIX}/after-failure-of"
PORT = 8080
#: Where the Secret with the tokens is mounted.
TOKENS = "/etc/passerelle/tokens"
#: Percent of the requested processor that is used, above which pods are added.
CPU_PERCENT = 70
#: Seconds between the end of a pod's place in the Service and SIGTERM, and in all until it is killed.
LEAVES_S, GRACE_S = 5, 45
#: Nobody in particular; see deployment.image.
USER = 65532

KINDS = {
    "Deployment": "deployments.apps",
    "Service": "services",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers.autoscaling",
    "InferenceService": "inferenceservices.serving.kserve.io",
}
VERSIONS = {
    "Deployment": "apps/v1",
    "Service": "v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "InferenceService": "serving.kserve.io/v1beta1",
}
FORMS = {"deployment": ("Deployment", "Service", "HorizontalPodAutoscaler"), "kserve": ("InferenceService",)}


def manifests(deployment: Deployment, settings: Kubernetes, package: str) -> tuple[dict[str, Any], ...]:
    """What is wanted, in the order in which it is made; ``package`` is the address of the revision's package."""
    name = endpoint_name(deployment.project, deployment.environment)
    labels = selector(deployment.project, deployment.environment) | settings.tags
    marked = labels | {REVISION: str(deployment.revision)}
    own = told(deployment) | {"PASSERELLE_PACKAGE": package, "PORT": str(PORT)}
    pod = _pod(settings, own, None if deployment.auth == "platform" else tokens_secret(name))
    if settings.form == "kserve":
        return (_inference_service(name, marked, settings, pod),)
    only = selector(deployment.project, deployment.environment)
    spec: dict[str, Any] = {
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": only},
        # A new pod is ready before an old one goes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": marked}, "spec": pod},
    }
    scaling = settings.scaling
    if scaling.maximum == scaling.minimum:
        spec["replicas"] = scaling.minimum  # else the autoscaler's
    made = [
        _object("Deployment", name, marked, settings, spec),
        _object(
            "Service",
            name,
            labels,
            settings,
            {"type": "ClusterIP", "selector": only, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        ),
    ]
    if scaling.maximum > scaling.minimum:
        metric = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_PERCENT}}
        spec = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": scaling.minimum,
            "maxReplicas": scaling.maximum,
            "metrics": [{"type": "Resource", "resource": metric}],
        }
        made.append(_object("HorizontalPodAutoscaler", name, labels, settings, spec))
    return tuple(made)


def selector(project: str, environment: str) -> dict[str, str]:
    """The labels by which everything of an environment is found.

    >>> selector("flights", "production")["passerelle.io/environment"]
    'production'
    """
    return {f"{PREFIX}/project": project, f"{PREFIX}/environment": environment}


def resource(manifest: dict[str, Any]) -> Resource:
    """A manifest that is wanted, as a resource."""
    return Resource(
        kind=manifest["kind"],
        name=manifest["metadata"]["name"],
        settings={"asked": mark(manifest), "manifest": manifest},
        lasting=True,
    )


def project_onto(found: Any, asked: Any) -> Any:
    """Of what is found, what was asked for: what a cluster added is left out.

    >>> project_onto({"a": 1, "added": 2, "list": [{"b": 3, "c": 4}]}, {"a": 0, "list": [{"b": 0}]})
    {'a': 1, 'list': [{'b': 3}]}
    """
    if isinstance(found, dict) and isinstance(asked, dict):
        return {key: project_onto(found[key], asked[key]) for key in asked if key in found}
    if isinstance(found, list) and isinstance(asked, list) and len(found) == len(asked):
        return [project_onto(one, other) for one, other in zip(found, asked, strict=True)]
    return found


def _object(kind: str, name: str, labels: dict[str, str], settings: Kubernetes, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": settings.namespace, "labels": labels}
    return {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata, "spec": spec}


def _probe(path: str, **more: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 2, **more}


def tokens_secret(name: str) -> str:
    """The name of the Secret that holds the tokens.json of an endpoint that asks for tokens."""
    return f"{name}-tokens"


def _pod(settings: Kubernetes, own: dict[str, str], secret: str | None) -> dict[str, Any]:
    amounts = {"cpu": settings.cpu, "memory": settings.memory}
    variables = settings.variables | own
    mounts = [{"name": "scratch", "mountPath": "/tmp"}]  # noqa: S108  (the pod's own)
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {}}]
    if settings.store.startswith("/"):
        mounts.append({"name": "store", "mountPath": settings.store})
        volumes.append({"name": "store", "hostPath": {"path": settings.store, "type": "Directory"}})
    if secret is not None:
        variables["PASSERELLE_TOKENS_FILE"] = f"{TOKENS}/tokens.json"
        # A folder, not a file: what is changed in the Secret arrives. Read by the pod's group, fsGroup.
        mounts.append({"name": "tokens", "mountPath": TOKENS})
        volumes.append({"name": "tokens", "secret": {"secretName": secret, "defaultMode": 0o440}})
    container = {
        "name": "kserve-container" if settings.form == "kserve" else "passerelle",
        "image": settings.image,
        "args": ["serve"],
        "env": [{"name": key, "value": value} for key, value in sorted(variables.items())],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # The processor is asked for and not capped: a cap slows the slowest answers most.
        "resources": {"requests": amounts, "limits": {"memory": settings.memory}},
        "startupProbe": _probe("/v2/health/ready", failureThreshold=60),
        "readinessProbe": _probe("/v2/health/ready", failureThreshold=2),
        "livenessProbe": _probe("/v2/health/live", failureThreshold=6),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVES_S)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    pod: dict[str, Any] = {
        "containers": [container],
        # Who it is to a store, a cloud's webhook or its nodes tell; of Kubernetes it asks nothing.
        "automountServiceAccountToken": False,
        "nodeSelector": {"kubernetes.io/arch": settings.architecture},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": GRACE_S,
        "volumes": volumes,
    }
    if settings.service_account is not None:
        pod["serviceAccountName"] = settings.service_account
    return pod


def _inference_service(name: str, labels: dict[str, str], settings: Kubernetes, pod: dict[str, Any]) -> dict[str, Any]:
    scaling = settings.scaling
    predictor = {
        "minReplicas": scaling.minimum,
        "maxReplicas": scaling.maximum,
        "scaleMetric": "cpu",
        "scaleTarget": CPU_PERCENT,
        "timeout": -(-settings.timeout_ms // 1000),
        "labels": labels,
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        **pod,
    }
    made = _object("InferenceService", name, labels, settings, {"predictor": predictor})
    # Without Knative: our container counts as one, and a trial needs its units to stay.
    made["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "RawDeployment"}
    return made
