"""Models of Vertex AI: the version that is made of a package in the store."""

from __future__ import annotations

from typing import Any

from passerelle.adapters.vertex_plan import VERSION, container_spec
from passerelle.adapters.vertex_rest import MissingError, Rest
from passerelle.adapters.vertex_rules import PREFIX
from passerelle.deployment.target import Resource, TargetError
from passerelle.project.targets import Vertex

#: Our labels on what we make.
PROJECT, ENVIRONMENT, REVISION, PART = (f"{PREFIX}{name}" for name in ("project", "environment", "revision", "part"))
#: The alias of the version that is meant when none is named.
DEFAULT = "default"


def owned(rest: Rest, method: str, path: str, project: str, environment: str) -> dict[str, Any] | None:
    """An endpoint or a model; None if there is none. Raises TargetError if it is not the environment's."""
    try:
        found = rest.call(method, path)
    except MissingError:
        return None
    labels = found.get("labels", {})
    if (labels.get(PROJECT), labels.get(ENVIRONMENT)) != (project, environment):
        raise TargetError(
            f"{path} is there, and is not of project {project!r}, environment {environment!r} (its labels are "
            f"{labels}): rename the project or the environment, or remove it."
        )
    return found


class VertexModels:
    """The versions of one project's models."""

    def __init__(self, rest: Rest, settings: Vertex, project: str) -> None:
        self._rest, self._settings, self._project = rest, settings, project

    def path(self, place: str) -> str:
        """The whole name of the model of an endpoint's name."""
        return f"{self._rest.location}/models/{place}"

    def observe(self, place: str, environment: str) -> list[Resource]:
        """The versions of our model, oldest first; one whose alias another has taken is called by its number."""
        if owned(self._rest, "models.get", self.path(place), self._project, environment) is None:
            return []
        found = []
        for one in sorted(self.all(place), key=lambda version: int(version["versionId"])):
            labels, aliases = one.get("labels", {}), one.get("versionAliases", [])
            part = labels.get(PART, "")
            number = labels.get(REVISION, "")
            found.append(
                Resource(
                    kind=VERSION,
                    name=f"{place}/{part if part in aliases else '@' + one['versionId']}",
                    settings={
                        "artifactUri": one.get("artifactUri", ""),
                        "image": one.get("containerSpec", {}).get("imageUri", ""),
                        "revision": int(number) if number.isdigit() else 0,
                        "owner": {"project": labels.get(PROJECT), "environment": labels.get(ENVIRONMENT)},
                    },
                )
            )
        return found

    def all(self, place: str) -> list[dict[str, Any]]:
        """The versions of the model of a name, as Vertex AI lists them."""
        return list(self._rest.pages("models.listVersions", self.path(place), "models"))

    def find(self, one: Resource) -> dict[str, Any] | None:
        """The version that a resource names, by its alias or @ and its number; None if it is not there."""
        place, _, alias = one.name.partition("/")
        mine = [
            found for found in self.all(place) if alias in (*found.get("versionAliases", []), "@" + found["versionId"])
        ]
        return mine[0] if mine else None

    def upload(self, one: Resource) -> None:
        """Make a version, unless it is there; the first of a name makes the model."""
        place, _, alias = one.name.partition("/")
        model, owner = self.path(place), one.settings["owner"]

        def find() -> dict[str, Any] | None:
            self._rest.settle("models", model)
            return self.find(one)

        def create() -> None:
            labels = {
                PROJECT: owner["project"],
                ENVIRONMENT: owner["environment"],
                REVISION: str(one.settings["revision"]),
                PART: alias,
            }
            # What the package must be that the container fetches: the revision that brought this version.
            told = {
                "PASSERELLE_PROJECT": owner["project"],
                "PASSERELLE_ENVIRONMENT": owner["environment"],
                "PASSERELLE_REVISION": str(one.settings["revision"]),
            }
            body: dict[str, Any] = {
                "model": {
                    "displayName": place,
                    "versionAliases": [alias],
                    "versionDescription": f"Passerelle: {owner['project']}, {owner['environment']}, {alias}",
                    "labels": self._settings.tags | labels,
                    "artifactUri": one.settings["artifactUri"],
                    "containerSpec": container_spec(self._settings, told),
                }
            }
            if owned(self._rest, "models.get", model, self._project, owner["environment"]) is None:
                body["modelId"] = place
            else:
                body["parentModel"] = model
            self._rest.finish(self._rest.call("models.upload", self._rest.location, body), "models.upload")

        self._rest.make(find, create)

    def delete(self, one: Resource) -> None:
        """The last version goes with its model; the default one hands its alias on first: Vertex AI keeps it else."""
        place = one.name.partition("/")[0]
        model = self.path(place)

        def gone() -> bool:
            self._rest.settle("models", model)
            return self.find(one) is None

        def delete() -> None:
            every = self.all(place)
            found = self.find(one)
            others = [other for other in every if found and other["versionId"] != found["versionId"]]
            if found is None:
                return
            if not others:
                self._rest.finish(self._rest.call("models.delete", model), "models.delete")
                return
            if DEFAULT in found.get("versionAliases", []):
                self.make_default(place, others[-1]["versionId"])
            version = f"{model}@{found['versionId']}"
            self._rest.finish(self._rest.call("models.deleteVersion", version), "models.deleteVersion")

        self._rest.make(gone, delete)

    def make_default(self, place: str, version: str) -> None:
        """Let a version be the one that is meant when none is named."""
        name = f"{self.path(place)}@{version}"
        self._rest.call("models.mergeVersionAliases", name, {"versionAliases": [DEFAULT]})
