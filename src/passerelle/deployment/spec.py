"""Deployment: the wanted state of an endpoint in a named environment. Every change is a new revision, a file.

The newest revision is the truth: whoever serves obeys it, and aliases, state and timeline are derived from it.
"""

from __future__ import annotations

import os
import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import DeploymentError
from passerelle.project.settings import LedgerMode, Name, Privacy

Mode = Literal["live", "shadow"]
Auth = Literal["tokens", "platform"]

_NAME: str = get_args(Name)[1].pattern


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One version that the endpoint answers with (live) or scores beside it (shadow)."""

    #: The version's number in the registry.
    version: int
    #: Where its bundle is: a folder, from the project's root if it is inside, for the local target.
    bundle: str
    #: The sha256 of the bundle's manifest: what is loaded must have this digest.
    digest: str
    #: Its share of the units, among the live variants; 0 for a shadow.
    weight: float = 1.0
    #: Does it answer, or is it only scored?
    mode: Mode = "live"


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A revision of an endpoint: frozen, and complete in itself.

    >>> from datetime import UTC, datetime
    >>> one = Variant(version=1, bundle="/bundles/a", digest="a" * 64)
    >>> made = datetime(2013, 2, 1, tzinfo=UTC)
    >>> Deployment(project="flights", environment="production", revision=1, variants=(one,), salt="s", created_at=made,
    ...            reason="first").live[0].weight
    1.0
    """

    project: str
    environment: Name
    #: 1, 2, 3 ...
    revision: int
    variants: tuple[Variant, ...]
    #: Salt of the hash that gives a unit its variant; kept from revision to revision: units stay where they are.
    salt: str
    #: Ed25519 public keys (hex) whose signature makes a bundle's code trusted.
    trusted_keys: tuple[str, ...] = ()
    #: The trial that is running, if any.
    trial: str | None = None
    ledger: LedgerMode = "durable"
    #: Where the ledger's segments are kept (s3://, az://, gs://, a folder); None: in the project's state folder.
    ledger_at: str | None = None
    #: Who decides whether a request may pass: tokens of ours, or the platform in front, which has decided already.
    auth: Auth = "tokens"
    #: The input field that says who is randomised; None: the event's id.
    unit: str | None = None
    #: The input field that says when the event happened; None: when it was received.
    time: str | None = None
    #: Column → keep, hash or drop in the ledger.
    privacy: dict[str, Privacy] = {}
    #: The revision whose variants this one brings back, if it is a roll-back.
    rolls_back_to: int | None = None
    created_at: datetime
    #: Why this revision was made, in one sentence.
    reason: str

    def __post_init__(self) -> None:
        """Refuse what cannot be served: no live variant, weights that are not shares of 1, a version twice."""
        live = [variant for variant in self.variants if variant.mode == "live"]
        if not live:
            raise DeploymentError("a deployment needs a live variant: name the version that answers.")
        total = sum(variant.weight for variant in live)
        if any(variant.weight <= 0 for variant in live) or abs(total - 1) > 1e-9:  # noqa: PLR2004  (rounding)
            raise DeploymentError(
                f"the weights of the live variants are {[v.weight for v in live]}: make each > 0 and their sum 1."
            )
        versions = [variant.version for variant in self.variants]
        if len(set(versions)) < len(versions):
            raise DeploymentError(f"a version stands twice among {versions}: name each once.")

    @property
    def live(self) -> tuple[Variant, ...]:
        """The variants that answer."""
        return tuple(variant for variant in self.variants if variant.mode == "live")

    @property
    def champion(self) -> Variant:
        """The variant that the others stand beside: in a trial the first, else the one with the largest share."""
        if self.trial is not None:
            return self.live[0]
        return max(self.live, key=lambda one: (one.weight, -one.version))

    @property
    def shadows(self) -> tuple[Variant, ...]:
        """The variants that are scored beside the answer."""
        return tuple(variant for variant in self.variants if variant.mode == "shadow")


class Revisions:
    """The revisions of one environment: a folder with a file for each, added by compare-and-set, never changed.

    Readers need no lock: a revision appears whole, by a hard link that fails if the number is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self) -> list[int]:
        """The revisions there are, oldest first."""
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.json"))

    def current(self) -> Deployment | None:
        """The newest revision; None before the first."""
        numbers = self.numbers()
        return self.get(numbers[-1]) if numbers else None

    def get(self, number: int) -> Deployment:
        """One revision. Raises DeploymentError if there is none of this number or its file is damaged."""
        path = self._path(number)
        try:
            return msgspec.json.decode(path.read_bytes(), type=prepared(Deployment))
        except FileNotFoundError as error:
            raise DeploymentError(
                f"there is no revision {number} in {self.folder}; there are {self.numbers()}."
            ) from error
        except msgspec.DecodeError as error:
            raise DeploymentError(
                f"{path} is damaged ({error}): restore it from a backup, or remove it and deploy again."
            ) from error

    def put(self, deployment: Deployment, *, after: int) -> None:
        """Make ``deployment`` the newest revision if ``after`` still is (0 before the first).

        Raises DeploymentError if somebody else made a revision in between: nothing is changed then.
        """
        if deployment.revision != after + 1:
            raise DeploymentError(f"revision {deployment.revision} cannot follow {after}.")
        self.folder.mkdir(parents=True, exist_ok=True)
        newest = (self.numbers() or [0])[-1]
        draft = self.folder / f".{deployment.revision}-{secrets.token_hex(8)}"
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(deployment), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            if newest != after:
                raise FileExistsError
            os.link(draft, self._path(deployment.revision))
        except FileExistsError as error:
            raise DeploymentError(
                f"revision {newest} was made while you were deciding on {after}: look at it, then try again."
            ) from error
        finally:
            draft.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


def told(deployment: Deployment) -> dict[str, str]:
    """The variables by which a platform tells a container what its package is: no other package is served.

    One key signs every project of a person's: a signature alone does not tell one package from another.
    """
    return {
        "PASSERELLE_PROJECT": deployment.project,
        "PASSERELLE_ENVIRONMENT": deployment.environment,
        "PASSERELLE_REVISION": str(deployment.revision),
    }


def environment_folder(state: Path, environment: str) -> Path:
    """Where an environment's revisions are, below a project's state folder.

    Raises DeploymentError for what is no environment's name: it could lead out of the project.
    """
    if not is_name(environment):
        raise DeploymentError(
            f"{environment!r} cannot name an environment: take a small letter, then small letters, digits, - and _, "
            "63 at most."
        )
    return state / "deployments" / environment


def is_name(text: str) -> bool:
    """May an environment be called this? See settings.Name.

    >>> is_name("staging"), is_name("../staging")
    (True, False)
    """
    return re.fullmatch(_NAME, text) is not None
