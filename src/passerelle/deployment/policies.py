"""Policies: what a target's cloud has to allow to whom: files for that cloud's own tools, with the target's names in.

The files lie in docs/howto/policies, where they are read and tested, and go with the package.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import passerelle
from passerelle.errors import SettingsError
from passerelle.project.settings import FILE, Project
from passerelle.project.targets import AzureML, Cloud, Kubernetes, SageMaker, Vertex

_PACKAGE = Path(passerelle.__file__).parent
#: Installed; in a checkout.
_FOLDERS = (_PACKAGE / "policies", _PACKAGE.parents[1] / "docs" / "howto" / "policies")


def policies(project: Project, target: str) -> dict[str, str]:
    """The files for a target, by name. Raises SettingsError for a target that is in no cloud and no cluster."""
    settings = project.targets.get(target)
    if not isinstance(settings, Cloud):
        raise SettingsError(f"{FILE} has no target {target!r} in a cloud or a cluster: policies are for those.")
    kind, words = _words(project, settings)
    folder = next(one for one in _FOLDERS if one.is_dir())
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob(f"{kind}-*"))}
    return {name: filled(text, words) for name, text in texts.items()}


def written(name: str) -> str:
    """A file's name, for a message: with where it comes from."""
    return f"{name} (passerelle target policies writes it)"


def filled(text: str, words: dict[str, str]) -> str:
    """A text with words replaced, whole ones only; a folder that is "" goes with its slash.

    >>> filled("BUCKET/PREFIX/runs of NAMES", {"BUCKET": "acme", "PREFIX": "", "NAME": "trips"})
    'acme/runs of NAMES'
    """
    known = sorted(words, key=len, reverse=True)
    found = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, known))})(?![\w])(/?)")
    return found.sub(lambda one: f"{words[one[1]]}{one[2] if words[one[1]] else ''}", text)


def _words(project: Project, settings: Cloud) -> tuple[str, dict[str, str]]:
    """The kind, as the files' names begin, and what stands in the files for what it is here."""
    at = urlsplit(settings.store)
    if not at.netloc and not isinstance(settings, Kubernetes):
        raise SettingsError(f"the target's store is {settings.store!r}, which is no bucket: correct it in {FILE}.")
    store = {"BUCKET": at.netloc, "CONTAINER": at.username or at.netloc, "PREFIX": at.path.strip("/")}
    place = project.name.replace("_", "-")
    common = store | {"PROJECT": project.name, "NAME": place}
    match settings:
        case SageMaker():
            training = settings.training_role or settings.role
            return "sagemaker", common | {
                "REGION": settings.region,
                "ACCOUNT": settings.role.split(":")[4],
                "role/passerelle-serving": settings.role.split(":", 5)[5],
                "role/passerelle-training": training.split(":", 5)[5],
                "repository/passerelle": "repository/" + settings.image.partition("@")[0].partition("/")[2],
            }
        case AzureML():
            return "azureml", common | {
                "SUBSCRIPTION": settings.subscription,
                "RESOURCE_GROUP": settings.resource_group,
            }
        case Vertex():
            return "vertex", common
        case Kubernetes():
            name = f"{project.name}-{settings.environment}".replace("_", "-")
            return "kubernetes", {
                "namespace: models": f"namespace: {settings.namespace}",
                "flights-production": name,
                "project: flights": f"project: {project.name}",
                "environment: production": f"environment: {settings.environment}",
            }
    raise AssertionError(settings)
