"""Package: what travels to a target: a revision, its bundles and settings for its container, signed.

| file | what |
|---|---|
| deployment.json | the revision; each variant's bundle is ``bundles/<digest>``, from the package |
| deployment.sig | Ed25519 over the digests of deployment.json and passerelle.toml: key and signature |
| passerelle.toml | of the project's settings those that the container reads; see project.served |
| bundles/<digest>/ | each variant's bundle, as it was sealed |

The digest of a package is the sha256 of what was signed. The same revision, packed again, is the same to the byte.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import secrets
import shutil
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from passerelle.bundle.keys import public_hex
from passerelle.bundle.verify import Signature, verify
from passerelle.decoding import prepared
from passerelle.deployment.spec import Deployment
from passerelle.errors import DeploymentError
from passerelle.project.served import served
from passerelle.project.settings import FILE as SETTINGS
from passerelle.project.settings import Project

DEPLOYMENT = "deployment.json"
SIGNATURE = "deployment.sig"
BUNDLES = "bundles"
#: So many are kept, at the least, on the machine that packs: they are made anew when they are needed.
KEPT = 3
#: The most that an archive may unpack to.
MOST_BYTES = 32 * 2**30

#: Begins what is signed, so that no signature of a bundle is ever taken for one of a package.
_PURPOSE = "passerelle package 1"
_BLOCK = 2**20
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


class PackageError(DeploymentError):
    """A package is damaged, changed or not trusted: deploy the revision again, and find out who changed it."""

    exit_code = 3


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A packed revision."""

    folder: Path
    #: The sha256 of what was signed: of the revision, its bundles and the settings.
    digest: str
    revision: int

    @property
    def name(self) -> str:
        """What it is called in a target's store: ``<revision:06d>-<the digest's first 12 digits>``."""
        return self.folder.name


def pack(project: Project, deployment: Deployment, *, key: Ed25519PrivateKey, into: Path) -> Package:
    """Pack a revision as a folder of its own below ``into``; one that is there already, and whole, is taken.

    Raises DeploymentError if the revision is another project's, BundleError if a bundle is damaged or not the one that
    the revision names: nothing is left then.
    """
    if deployment.project != project.name:
        raise DeploymentError(f"the revision is of project {deployment.project!r}, and this is {project.name!r}.")
    inside = {variant.digest: project.root / variant.bundle for variant in deployment.variants}
    variants = tuple(msgspec.structs.replace(one, bundle=_place(one.digest)) for one in deployment.variants)
    packed = msgspec.structs.replace(deployment, variants=variants)
    encoded = msgspec.json.format(msgspec.json.encode(packed, order="deterministic"), indent=1)
    settings = served(project)
    signed = _signed(encoded, settings)
    digest = hashlib.sha256(signed).hexdigest()
    package = Package(
        folder=into / f"{deployment.revision:06d}-{digest[:12]}", digest=digest, revision=deployment.revision
    )
    own = public_hex(key)
    if package.folder.exists():
        with contextlib.suppress(DeploymentError, OSError):
            open_package(package.folder, (own,))
            return package
        shutil.rmtree(package.folder)  # cut short, or of another key: it is made anew
    into.mkdir(parents=True, exist_ok=True)
    draft = into / f".draft-{secrets.token_hex(8)}"
    draft.mkdir()
    try:
        for bundle_digest, bundle in inside.items():
            verify(bundle, digest=bundle_digest)
            shutil.copytree(bundle, draft / _place(bundle_digest), copy_function=shutil.copyfile)
        (draft / SETTINGS).write_bytes(settings)
        (draft / DEPLOYMENT).write_bytes(encoded)
        (draft / SIGNATURE).write_bytes(msgspec.json.encode(Signature(key=own, signature=key.sign(signed).hex())))
        for path in draft.rglob("*"):
            path.chmod(_FOLDER_MODE if path.is_dir() else _FILE_MODE)
        draft.chmod(_FOLDER_MODE)
        open_package(draft, (own,))  # what was copied is what was meant
        draft.rename(package.folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return package


def surplus(into: Path, keep: Collection[int] = ()) -> list[Path]:
    """The packages below a folder that may go: all but the newest ``KEPT`` and those of the revisions in ``keep``."""
    there = sorted(into.glob("[0-9]*-*"), key=lambda one: one.stat().st_mtime_ns)
    return [one for one in there[:-KEPT] if int(one.name.partition("-")[0]) not in keep]


def open_package(folder: Path, trusted_keys: Collection[str]) -> Deployment:
    """The revision of a package, as it was signed: its bundles' paths are from the package.

    Raises PackageError if it is not whole, not signed, signed by a key that is not among ``trusted_keys``, or was
    changed; BundleError if one of its bundles was. Nothing is unpickled, and only what the signature covers is read:
    other files beside it (``lost+found``) are let be.
    """
    encoded, settings = _read(folder, DEPLOYMENT), _read(folder, SETTINGS)
    _check_signature(folder, _signed(encoded, settings), trusted_keys)
    try:
        deployment = msgspec.json.decode(encoded, type=prepared(Deployment))
    except msgspec.DecodeError as error:
        raise PackageError(
            f"{folder / DEPLOYMENT} is signed, and this Passerelle cannot read it ({error}): build the image with the "
            "Passerelle that deploys."
        ) from error
    if (folder / BUNDLES).is_symlink():
        raise PackageError(f"{folder / BUNDLES} is a link, and a package has none: deploy the revision again.")
    for variant in deployment.variants:
        if variant.bundle != _place(variant.digest):
            raise PackageError(
                f"version {variant.version} is said to lie at {variant.bundle!r}, outside of its place "
                f"{_place(variant.digest)}: deploy the revision again."
            )
        bundle = folder / variant.bundle
        if bundle.is_symlink() or not bundle.is_dir():
            raise PackageError(f"{bundle}, the bundle of version {variant.version}, is not there: deploy again.")
        verify(bundle, digest=variant.digest)
    return deployment


def tarball(package: Package, path: Path) -> Path:
    """Write a package as a .tar.gz, whole or not at all: the same package gives the same bytes. Returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with (
            draft.open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name in sorted(one.relative_to(package.folder).as_posix() for one in package.folder.rglob("*")):
                source = package.folder / name
                member = tarfile.TarInfo(name)
                if source.is_dir():
                    member.type, member.mode = tarfile.DIRTYPE, _FOLDER_MODE
                    archive.addfile(member)
                    continue
                member.mode, member.size = _FILE_MODE, source.stat().st_size
                with source.open("rb") as content:
                    archive.addfile(member, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def unpack(path: Path, into: Path, *, most_bytes: int = MOST_BYTES) -> Path:
    """Unpack a .tar.gz as the folder ``into``, which must not be there yet, whole or not at all. Returns ``into``.

    Raises PackageError, naming the member, for anything that is neither a plain file nor a folder, for a name that
    leads out of ``into`` or stands twice, and if it would come to more than ``most_bytes``.
    """
    if into.exists():
        raise PackageError(f"{into} is there already: remove it first.")
    into.parent.mkdir(parents=True, exist_ok=True)
    draft = into.with_name(f".{into.name}-{secrets.token_hex(8)}")
    draft.mkdir()
    try:
        # tarfile's own reading of gzip asks neither for its end nor for its sum.
        with gzip.open(path) as packed, tarfile.open(fileobj=packed, mode="r|") as archive:
            for member, name in _allowed(archive, path, most_bytes):
                target = draft / name
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None  # it is a plain file
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file)
            while packed.read(_BLOCK):
                pass
        draft.rename(into)
    except FileExistsError as error:
        raise PackageError(f"{path} holds {error.filename} twice: deploy the revision again.") from error
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, OSError) as error:
        raise PackageError(f"{path} is not a whole .tar.gz ({error}): fetch it again.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return into


def _allowed(archive: tarfile.TarFile, path: Path, most_bytes: int) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    size_bytes = 0
    for member in archive:
        name = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()):
            raise PackageError(
                f"{path} holds {member.name!r}, which is neither a plain file nor a folder: not unpacked."
            )
        if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
            raise PackageError(f"{path} holds {member.name!r}, which leads out of the folder: not unpacked.")
        size_bytes += member.size
        if size_bytes > most_bytes:
            raise PackageError(f"{path} unpacks to more than {most_bytes} bytes: not unpacked.")
        yield member, name


def _place(digest: str) -> str:
    return f"{BUNDLES}/{digest}"


def _signed(deployment: bytes, settings: bytes) -> bytes:
    """What is signed: in the manner of sha256sum, so that the files of a package can be checked by hand."""
    lines = (
        f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in ((DEPLOYMENT, deployment), (SETTINGS, settings))
    )
    return "\n".join((_PURPOSE, *lines, "")).encode()


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise PackageError(
            f"{folder} is not a package: it has no {name}. passerelle deploy makes and sends them."
        ) from error
    except OSError as error:
        raise PackageError(f"{path} cannot be read ({error}): deploy the revision again.") from error


def _check_signature(folder: Path, signed: bytes, trusted_keys: Collection[str]) -> None:
    path = folder / SIGNATURE
    if not path.exists():
        raise PackageError(f"{folder} is not signed: deploy the revision with a key that the image trusts.")
    try:
        signature = msgspec.json.decode(_read(folder, SIGNATURE), type=prepared(Signature))
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.key))
        key.verify(bytes.fromhex(signature.signature), signed)
    except (msgspec.DecodeError, ValueError) as error:
        raise PackageError(f"{path} is not a signature that can be read ({error}): deploy again.") from error
    except InvalidSignature as error:
        raise PackageError(
            f"{path} does not belong to {DEPLOYMENT} and {SETTINGS}: one of them was changed after the package was "
            "made. Deploy the revision again, and find out who changed it."
        ) from error
    if signature.key not in trusted_keys:
        raise PackageError(
            f"{folder} is signed by the key {signature.key[:16]}, which is not trusted here "
            f"({len(trusted_keys)} keys are): deploy with a trusted key, or build the image with this one "
            "(PASSERELLE_TRUSTED_KEYS)."
        )
