"""kubectl as a process: bounded tries, and what it says when it cannot, with what to do next."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from passerelle.adapters.backoff import backoff_s
from passerelle.deployment.policies import written
from passerelle.deployment.target import TargetError

ROLE_FILE = "kubernetes-deployer.yaml"
_ROLE = written(ROLE_FILE)

_LONGEST_S = 120
_TRIES = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 20.0
#: The server is asked too often, or is away for a moment.
_AGAIN = re.compile("TooManyRequests|too many requests|ServiceUnavailable|InternalError|etcdserver: ", re.IGNORECASE)
_NO_SUCH_KIND = re.compile("doesn't have a resource type|no matches for kind|could not find the requested resource")
#: What kubectl and the server say → what to do; the first that is found.
_NEXT = (
    (
        "exceeded quota|minimum .* usage per|maximum .* usage per",
        "Ask for more of what it names, or say less: cpu, memory, scaling.maximum; a change needs one pod more.",
    ),
    ("violates PodSecurity", "Let the namespace take pods as the target makes them: docs/howto/kubernetes.md."),
    (
        "Unauthorized|must be logged in|provide credentials|exec plugin|getting credentials",
        "The cluster does not know who asks: log in again, as your kubeconfig says; kubectl auth whoami tells.",
    ),
    (
        "context was not found|context .* does not exist|no configuration has been provided|error loading config",
        "Name the kubeconfig by KUBECONFIG, and a context that it has: kubectl config use-context NAME.",
    ),
    (
        "was refused|Unable to connect|no such host|i/o timeout|deadline exceeded|connection reset|TLS handshake|x509",
        "The cluster cannot be reached: see kubectl cluster-info, KUBECONFIG, its context and the network.",
    ),
    (r'namespaces? "?[\w-]+"? not found', "Make it: kubectl create namespace NAME; or correct the target's namespace."),
    (
        _NO_SUCH_KIND.pattern,
        'The cluster has no such kind: install KServe (v1beta1) there, or say form = "deployment".',
    ),
    ("Invalid|BadRequest|admission webhook|denied the request", "Correct what it names in passerelle.toml."),
)
#: A line of kubectl's own journal, which repeats at each try what the last line says.
_JOURNAL = re.compile(r"^[EWI]\d{4} [\d:.]+ +\d+ .*\n?", re.MULTILINE)
_FORBIDDEN = re.compile(r'cannot (?P<verb>\w+) resource "(?P<resource>[\w./]+)" in API group "(?P<group>[\w.]*)"')


class NoSuchKindError(TargetError):
    """The cluster does not know the kind of what is asked for: KServe is not installed there, or another version."""


def kubectl(
    command: Sequence[str], target: str, namespace: str, arguments: Sequence[str], given: dict[str, Any] | None = None
) -> str:
    """Run kubectl, ``given`` on its standard input; returns what it printed.

    Too often, or nobody there for a moment: again after a random wait that doubles, five times in all. Raises
    TargetError in kubectl's words, with what to do next.
    """
    asked = f"{target}: kubectl {' '.join(arguments[:3])}"
    for attempt in range(_TRIES):
        try:
            done = subprocess.run(  # noqa: S603  (kubectl, no shell)
                [*command, "--namespace", namespace, *arguments],
                input=None if given is None else json.dumps(given),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LONGEST_S,
                check=False,
            )
        except OSError as error:
            raise TargetError(
                f"{target}: {command[0]} cannot be run ({error.strerror}): install kubectl and see that it is on the "
                "PATH, or render the manifests for what applies them from git."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise TargetError(
                f"{asked} did not answer within {_LONGEST_S} s: look at the cluster and at your kubeconfig, then "
                "deploy again."
            ) from error
        if done.returncode == 0:
            return done.stdout
        said = (
            _JOURNAL.sub("", done.stderr).strip()
            or done.stderr.strip()
            or f"it ended with {done.returncode} and said nothing"
        )
        if not _AGAIN.search(said) or attempt == _TRIES - 1:
            break
        time.sleep(backoff_s(attempt, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S))
    made = NoSuchKindError if _NO_SUCH_KIND.search(said) else TargetError
    raise made(f"{asked}: {said.rstrip('.')}. {next_step(said)}")


def decoded(text: str, asked: str) -> Any:
    """What kubectl printed as JSON. Raises TargetError if it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TargetError(
            f"{asked} printed what is no JSON ({error}): {text[:200]!r}. See that kubectl is Kubernetes' own, not a "
            "wrapper that prints more, then deploy again."
        ) from error


def next_step(said: str) -> str:
    """What to do about what kubectl said.

    >>> next_step('User "ci" cannot patch resource "deployments" in API group "apps" in the namespace "models"')[:53]
    'patch of deployments in API group "apps" is missing: '
    """
    if found := _FORBIDDEN.search(said):
        verb, resource, group = found["verb"], found["resource"], found["group"]
        return (
            f'{verb} of {resource} in API group "{group}" is missing: the Role in {_ROLE} grants it by its line of '
            f"resources: [{resource}]; kubectl apply it in the namespace, and bind it to who deploys."
        )
    for pattern, what in _NEXT:
        if re.search(pattern, said, re.IGNORECASE):
            return what
    if "forbidden" in said.lower():
        return f"The Role in {_ROLE} grants what Passerelle asks; see whether it is bound to who deploys."
    return "Correct what it names, then deploy again."
