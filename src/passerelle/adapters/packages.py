"""Packages in a target's store, as folders: what is there of an environment, put there whole, and removed.

SageMaker takes an archive, which it is sent by its own client: only where it lies is said here.
"""

from __future__ import annotations

from passerelle.adapters.objectstore import open_store, put_folder
from passerelle.deployment.package import Package
from passerelle.deployment.policies import written
from passerelle.deployment.target import Resource, Step, TargetError
from passerelle.errors import StoreError
from passerelle.project.settings import Project

#: The kind of resource.
PACKAGE = "packages"


def packages_folder(store: str, project: str, environment: str) -> str:
    """The address below which the packages of an environment lie.

    >>> packages_folder("s3://models/flights", "flights", "production")
    's3://models/flights/packages/flights/production'
    """
    return f"{store}/packages/{project}/{environment}"


def package_resource(store: str, project: str, environment: str, package: Package) -> Resource:
    """A package that is wanted, by what it holds: one that is not whole in the store is another."""
    sizes = [path.stat().st_size for path in package.folder.rglob("*") if path.is_file()]
    return _resource(packages_folder(store, project, environment), project, environment, package.name, sizes)


class Packages:
    """The packages of one project in a store; none if its address begins with none of ``schemes``: plan refuses it.

    ``role``: the file of the role whose lines are the store's permissions, if there is one.
    """

    def __init__(self, store: str, project: Project, schemes: tuple[str, ...] = ("",), role: str = "") -> None:
        self._store, self._project, self._schemes, self._role = store, project, schemes, role

    def there(self, environment: str) -> list[Resource]:
        """The packages of an environment, whole or not. Raises TargetError."""
        if not self._store.startswith(self._schemes):
            return []
        at, sizes = packages_folder(self._store, self._project.name, environment), dict[str, list[int]]()
        try:
            for found in open_store(at).list():
                sizes.setdefault(found.key.partition("/")[0], []).append(found.size_bytes)
        except StoreError as error:
            raise self._refused(error) from error
        return [_resource(at, self._project.name, environment, name, some) for name, some in sorted(sizes.items())]

    def apply(self, step: Step) -> None:
        """Put a package there, from where ``plan`` had it packed, or delete it. Raises TargetError."""
        one = step.resource
        _, environment, name = one.name.split("/")
        try:
            if step.act == "delete":
                store = open_store(one.settings["uri"])
                for found in list(store.list()):
                    store.delete(found.key)
            elif one not in self.there(environment):
                folder = self._project.state / "packages" / environment / name
                if not folder.exists():
                    raise TargetError(f"{folder} is not there: plan the revision again, which packs it, then apply.")
                put_folder(one.settings["uri"], folder)
        except StoreError as error:
            raise self._refused(error) from error

    def _refused(self, error: StoreError) -> TargetError:
        lacks = self._role and "403" in str(error)
        return TargetError(f"{error} The role in {written(self._role)} has a line for it." if lacks else str(error))


def _resource(at: str, project: str, environment: str, name: str, sizes: list[int]) -> Resource:
    return Resource(
        kind=PACKAGE,
        name=f"{project}/{environment}/{name}",
        settings={"uri": f"{at}/{name}", "files": len(sizes), "size_bytes": sum(sizes)},
    )
