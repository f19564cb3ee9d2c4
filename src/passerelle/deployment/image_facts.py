"""Image facts: what a registry says of an image, by the registry's own HTTP interface (OCI distribution, version 2).

Nothing is pulled but the manifest and the configuration, a few kilobytes; what comes is checked against its digest.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, NamedTuple

import msgspec
import requests
import urllib3

from passerelle.deployment.target import PlanError
from passerelle.errors import DeploymentError

#: The registry that does not answer everybody, and the name and password that it, and it alone, is told.
HOST_VARIABLE = "PASSERELLE_REGISTRY_HOST"
USER_VARIABLE, PASSWORD_VARIABLE = "PASSERELLE_REGISTRY_USER", "PASSERELLE_REGISTRY_PASSWORD"

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REFERENCE = re.compile(
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"
_MOST_BYTES = 4 * 2**20
_TIMEOUT_S, _ASK_TIMEOUT_S = 10.0, 3.0
_REFUSED, _UNAUTHORISED, _NOT_FOUND = 400, 401, 404


class ImageError(DeploymentError):
    """The image is not there, cannot be looked at, or does not fit: correct its name, or build it anew."""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """An image's name, taken apart."""

    #: With the port, if any: "127.0.0.1:5000".
    host: str
    #: In the registry: "library/python".
    name: str
    tag: str | None = None
    digest: str | None = None

    @property
    def address(self) -> str:
        """Where the registry answers: by http on this machine, else by https.

        >>> parse("python:3.11-slim").address
        'https://registry-1.docker.io/v2/library/python'
        """
        own = self.host.partition(":")[0] in ("127.0.0.1", "localhost")
        host = _HUB_HOST if self.host == _HUB else self.host
        return f"{'http' if own else 'https'}://{host}/v2/{self.name}"


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What there is under an image's name."""

    #: Of what the name stands for: an image, or an index of images for several processors.
    digest: str
    #: The processors it is built for: "amd64", "arm64".
    architectures: tuple[str, ...]
    #: Of an index: those of its first image.
    labels: dict[str, str] = {}
    #: Who its processes run as; "" is root.
    user: str = ""
    entrypoint: tuple[str, ...] = ()


def parse(reference: str) -> Reference:
    """Take an image's name apart. Raises ImageError if it is none.

    >>> parse("127.0.0.1:5000/flights:7").host
    '127.0.0.1:5000'
    """
    first, slash, rest = reference.partition("/")
    host = first if slash and ("." in first or ":" in first or first == "localhost") else ""
    found = _REFERENCE.fullmatch(rest if host else reference)
    if found is None:
        raise ImageError(f"{reference!r} is not an image's name: it is HOST/NAME:TAG, or HOST/NAME@sha256:DIGEST.")
    name, tag, digest = found["name"], found["tag"], found["digest"]
    if host in ("", _HUB) and "/" not in name:
        name = f"library/{name}"
    return Reference(host=host or _HUB, name=name, tag=tag, digest=digest)


def inspect(reference: str, *, timeout_s: float = _TIMEOUT_S) -> ImageFacts:
    """What a registry says of an image, asked as everybody or, by PASSERELLE_REGISTRY_HOST, with name and password.

    Raises ImageError if there is no such image, the registry cannot be reached or refuses, or what it sends is not
    what the digest names.
    """
    asked = parse(reference)
    session = _Session(reference, asked, timeout_s)
    manifest, digest = session.get(f"manifests/{asked.digest or asked.tag or 'latest'}", asked.digest)
    listed = manifest.get("manifests")
    if not isinstance(listed, list):
        config = session.config(manifest)
        return _facts(digest, (str(config.get("architecture", "")),), config)
    # What says "unknown" is an attestation beside the images, not an image.
    images = [one for one in listed if one.get("platform", {}).get("architecture", "unknown") != "unknown"]
    if not images:
        raise ImageError(f"{reference} is an index without an image: build and push it again.")
    first, _ = session.get(f"manifests/{images[0]['digest']}", images[0]["digest"])
    architectures = dict.fromkeys(str(one["platform"]["architecture"]) for one in images)
    return _facts(digest, tuple(architectures), session.config(first))


def check_architecture(reference: str, facts: ImageFacts, architecture: str) -> None:
    """Raise ImageError if an image is not built for a processor: it would be started, and end at once.

    >>> check_architecture("flights", ImageFacts(digest="sha256:0", architectures=("amd64",)), "amd64")
    """
    if architecture not in facts.architectures:
        raise ImageError(
            f"{reference} is built for {', '.join(facts.architectures)}, and the target's machines are {architecture}: "
            f"passerelle image --architecture {architecture}, push it, and name its digest."
        )


def ask(reference: str, architecture: str) -> tuple[str, ...]:
    """Ask an image's registry, before a deployment, if the image fits; what a plan's notes should say.

    A registry that cannot be reached from here, or that lets only the cloud in, refuses nothing: that is a note. Raises
    PlanError (rule image-architecture) if it answers that the image is built for other processors.
    """
    try:
        facts = inspect(reference, timeout_s=_ASK_TIMEOUT_S)
    except ImageError as error:
        return (f"whether the image is there, and built for {architecture}, could not be asked: {error}",)
    try:
        check_architecture(reference, facts, architecture)
    except ImageError as error:
        raise PlanError("image-architecture", str(error)) from error
    return ()


def _facts(digest: str, architectures: tuple[str, ...], config: dict[str, Any]) -> ImageFacts:
    inner = config.get("config") or {}
    return ImageFacts(
        digest=digest,
        architectures=architectures,
        labels=dict(inner.get("Labels") or {}),
        user=str(inner.get("User") or ""),
        entrypoint=tuple(inner.get("Entrypoint") or ()),
    )


class _Answer(NamedTuple):
    status: int
    challenge: str
    body: bytes


class _Session:
    """Requests about one image; a token is asked for once, when the registry wants one."""

    def __init__(self, reference: str, asked: Reference, timeout_s: float) -> None:
        self._reference, self._asked, self._timeout_s = reference, asked, timeout_s
        self._headers = {"Accept": ", ".join((*_INDEXES, *_MANIFESTS))}
        user, password = os.environ.get(USER_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
        told = os.environ.get(HOST_VARIABLE) == asked.host
        self._login = (user, password) if told and user and password else None
        self._how = f"set {HOST_VARIABLE}={asked.host}, {USER_VARIABLE} and {PASSWORD_VARIABLE}"

    def get(self, path: str, digest: str | None) -> tuple[dict[str, Any], str]:
        """An answer, as JSON, and its digest, which is ``digest`` where that is known beforehand."""
        url = f"{self._asked.address}/{path}"
        answer = self._ask(url, self._headers)
        if answer.status == _UNAUTHORISED:
            self._headers["Authorization"] = self._authorise(answer.challenge)
            answer = self._ask(url, self._headers)
        if answer.status == _NOT_FOUND:
            raise ImageError(f"{self._reference} is not in its registry: push it, or correct its name.")
        if answer.status >= _REFUSED:
            raise ImageError(
                f"{self._asked.host} answers {answer.status} for {self._reference}: for an image that not "
                f"everybody may read, {self._how}."
            )
        found = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        if digest is not None and found != digest:
            raise ImageError(f"{self._asked.host} sent {found} for {digest}: not trusted. Ask its owner.")
        try:
            return msgspec.json.decode(answer.body, type=dict[str, Any]), found
        except msgspec.DecodeError as error:
            raise ImageError(
                f"{self._asked.host} sent no JSON for {self._reference} ({error}): is it a registry?"
            ) from (error)

    def config(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """The configuration of an image."""
        digest = (manifest.get("config") or {}).get("digest")
        if not isinstance(digest, str):
            raise ImageError(f"{self._reference} has no configuration: it is not a container's image.")
        return self.get(f"blobs/{digest}", digest)[0]

    def _ask(self, url: str, headers: dict[str, str], **more: Any) -> _Answer:
        try:
            with requests.get(url, headers=headers, timeout=self._timeout_s, stream=True, **more) as answer:
                body = answer.raw.read(_MOST_BYTES + 1, decode_content=True)
                return _Answer(answer.status_code, answer.headers.get("WWW-Authenticate", ""), body)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ImageError(f"{self._asked.host} cannot be reached from here ({type(error).__name__}).") from error

    def _authorise(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and self._login is not None:
            return str(
                requests.Request(auth=self._login, method="GET", url=self._asked.address)
                .prepare()
                .headers["Authorization"]
            )
        said = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = said.pop("realm", "")
        if kind.lower() != "bearer" or not realm:
            raise ImageError(f"{self._asked.host} wants a name and a password for {self._reference}: {self._how}.")
        if not realm.startswith("https://") and not self._asked.address.startswith("http://"):
            raise ImageError(
                f"{self._asked.host} sends us to {realm} for a token, which is not encrypted: not followed."
            )
        answer = self._ask(realm, {}, params=said, auth=self._login)
        try:
            token = msgspec.json.decode(answer.body, type=dict[str, Any])
            return f"Bearer {token.get('token') or token['access_token']}"
        except (msgspec.DecodeError, KeyError) as error:
            raise ImageError(f"{realm} gives no token for {self._reference}: {answer.status}.") from error
