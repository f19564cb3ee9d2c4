"""Versions: bundles with a number, and the aliases champion and challenger, in MLflow's registry.

MLflow keeps the numbers, the aliases, a run with each version's metrics, and a tag with the bundle's digest; the
bundles themselves stay in ``<state>/bundles``. What is registered is found by its key before it is created, so that
a step that is done again makes no second version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy
import sqlalchemy.exc

from passerelle.bundle.seal import Bundle
from passerelle.bundle.tracking import mlflow, quiet
from passerelle.errors import RegistryError
from passerelle.state.sharing import put_up

Alias = Literal["champion", "challenger"]

_PREFIX = "passerelle."
_MAGIC = b"SQLite format 3\x00"


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle with a number."""

    number: int
    digest: str
    #: The bundle's folder.
    path: Path
    #: When the bundle was made, by its provenance.
    created_at: datetime
    #: Metric → value on the holdout.
    metrics: dict[str, float]
    #: champion, challenger, or none.
    aliases: tuple[str, ...]
    #: MLflow's id of the run that shows its metrics.
    run: str
    #: What the registering step said of it.
    tags: dict[str, str] = {}


class Registry:
    """The versions of one project.

    ``uri`` is a database that MLflow opens: ``sqlite:////folder/registry.db``, or one of its other databases. Raises
    RegistryError if it is damaged, or was made by a newer MLflow than this one.
    """

    def __init__(self, project: str, uri: str, *, bundles: Path | None = None) -> None:
        self._project = project
        self._bundles = bundles
        self._uri = uri
        self._file = _sqlite_file(uri)
        if self._file is not None:
            _prepare_sqlite(self._file)
        with self._words():
            self._client: Any = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    def register(
        self, bundle: Bundle, *, key: str, tags: Mapping[str, str] | None = None, metrics: Mapping[str, float]
    ) -> Version:
        """Give a bundle the next number, unless ``key`` was registered before: then that version is answered."""
        found = self.find(key)
        if found is not None:
            return found
        if self._bundles is not None:
            put_up(self._bundles.parent)  # where the state is shared: no version without its bundle
        provenance = bundle.manifest.provenance
        own = {
            "key": key,
            "digest": bundle.digest,
            "path": str(bundle.path.resolve()),
            "created_at": provenance.created_at.isoformat(),
            "metrics": msgspec.json.encode(dict(metrics)).decode(),
        }
        named = {f"{_PREFIX}{name}": value for name, value in own.items()}
        with self._words():
            run = self._run(key, metrics)
            if not self._exists():
                self._client.create_registered_model(self._project)
            made = self._client.create_model_version(
                self._project, source=own["path"], run_id=run, tags={**(tags or {}), **named}
            )
        return self.get(int(made.version))

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        return self._search(f"name='{self._project}'")

    def find(self, key: str) -> Version | None:
        """The version that was registered with this key; None if there is none."""
        found = self._search(f"name='{self._project}' and tags.`{_PREFIX}key`='{key}'")
        return found[0] if found else None

    def alias(self, alias: str) -> Version | None:
        """The version that has this alias; None if none has."""
        return next((version for version in self.versions() if alias in version.aliases), None)

    def get(self, which: int | str) -> Version:
        """A version by its number or alias. Raises RegistryError, naming those there are, if there is none."""
        versions = self.versions()
        for version in versions:
            if str(version.number) == str(which) or which in version.aliases:
                return version
        there = ", ".join(
            str(version.number) + (f" ({', '.join(version.aliases)})" if version.aliases else "")
            for version in versions
        )
        raise RegistryError(
            f"{self._project} has no version {which!r}: there {'is' if len(versions) == 1 else 'are'} {there}."
            if versions
            else f"{self._project} has no version yet: make one with passerelle train."
        )

    def set_alias(self, alias: Alias, number: int) -> None:
        """Give an alias to a version; the version that had it has it no more."""
        self.get(number)
        with self._words():
            self._client.set_registered_model_alias(self._project, alias, str(number))

    def drop_alias(self, alias: Alias) -> None:
        """Take an alias away; nothing happens if no version has it."""
        with self._words():
            if self._exists():
                self._client.delete_registered_model_alias(self._project, alias)

    def _exists(self) -> bool:
        return bool(self._client.search_registered_models(f"name='{self._project}'"))

    def _run(self, key: str, metrics: Mapping[str, float]) -> str:
        """The MLflow run of this key, with its metrics: found, or created."""
        client = self._client
        found = client.get_experiment_by_name(self._project)
        # Nothing is stored as an artifact; without a place MLflow would make ./mlruns for it.
        place = (self._file.parent / "mlflow").as_uri() if self._file is not None else None
        experiment = found.experiment_id if found else client.create_experiment(self._project, artifact_location=place)
        runs = client.search_runs([experiment], f"tags.`{_PREFIX}key` = '{key}'", max_results=1)
        if runs:
            run = runs[0].info.run_id
        else:
            run = client.create_run(experiment, tags={f"{_PREFIX}key": key}, run_name=key).info.run_id
        for name, value in metrics.items():
            client.log_metric(run, name, value, timestamp=0, step=0)
        client.set_terminated(run)
        return str(run)

    def _search(self, question: str) -> list[Version]:
        found: list[Any] = []
        with self._words():
            if not self._exists():
                return []
            named = self._client.get_registered_model(self._project).aliases
            token = None
            while True:
                page = self._client.search_model_versions(question, max_results=1000, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        aliases: dict[int, list[str]] = {}
        for alias, number in sorted(named.items()):
            aliases.setdefault(int(number), []).append(alias)
        ours = [one for one in found if f"{_PREFIX}digest" in one.tags]  # somebody may register by hand beside us
        return sorted((_version(one, aliases, self._bundles) for one in ours), key=lambda version: version.number)

    @contextmanager
    def _words(self) -> Iterator[None]:
        """MLflow's errors in our words."""
        try:
            with quiet():
                yield
        except mlflow.exceptions.MlflowException as error:
            if schema := re.search(r"found version (\w+)", str(error)):
                raise RegistryError(_other_schema(self._uri, schema[1])) from error
            raise RegistryError(f"the registry {_shown(self._uri)} refused: {error}") from error
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise RegistryError(
                f"the registry {_shown(self._uri)} cannot be used ({error.__cause__ or error}): see that its database "
                "runs, is whole and may be written."
            ) from error


def _version(made: Any, aliases: Mapping[int, list[str]], bundles: Path | None) -> Version:
    own = {name.removeprefix(_PREFIX): value for name, value in made.tags.items() if name.startswith(_PREFIX)}
    number = int(made.version)
    return Version(
        number=number,
        digest=own["digest"],
        path=_place(own, bundles),
        created_at=datetime.fromisoformat(own["created_at"]).astimezone(UTC),
        metrics=msgspec.json.decode(own["metrics"], type=dict[str, float]),
        aliases=tuple(aliases.get(number, ())),
        run=made.run_id,
        tags={name: value for name, value in made.tags.items() if not name.startswith(_PREFIX)},
    )


def _place(own: Mapping[str, str], bundles: Path | None) -> Path:
    """Where the bundle is: below the project as it stands now, else where it was when it was registered."""
    here = bundles / own["digest"] if bundles is not None else None
    return here if here is not None and here.is_dir() else Path(own["path"])


def _sqlite_file(uri: str) -> Path | None:
    """The file that is this database; None if it is no file."""
    if not uri.startswith("sqlite"):
        return None
    name = sqlalchemy.make_url(uri).database
    return Path(name).absolute() if name else None


def _prepare_sqlite(path: Path) -> None:
    """See that the file can be a database: MLflow would try again for minutes before it says that it is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if head and head != _MAGIC:
        raise RegistryError(
            f"{path} is not a database (its first bytes are others): restore it from a backup. The bundles are not "
            "touched; without a backup, move the file away and train again."
        )


def _other_schema(uri: str, found: str) -> str:
    known = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(known.glob(f"{found}_*.py")):
        return (
            f"the registry {_shown(uri)} was made by an older MLflow (schema {found}): copy it away for safety, then "
            f"run mlflow db upgrade {_shown(uri)}"
        )
    return (
        f"the registry {_shown(uri)} was made by a newer MLflow than {mlflow.__version__} (schema {found} is not known "
        "here): upgrade Passerelle. Nothing was changed."
    )


def _shown(uri: str) -> str:
    """A database's address without its password."""
    return re.sub(r"://([^:/@]+):[^@]*@", r"://\1:***@", uri)
