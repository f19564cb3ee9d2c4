"""Object stores: S3, Azure blobs, Google Cloud Storage and folders, through obstore; and a ledger that is kept in one.

| address | store | who you are, where it is not the machine's own role |
|---|---|---|
| ``s3://bucket/prefix`` | S3, and what speaks it | AWS_ACCESS_KEY_ID ..., AWS_PROFILE, ~/.aws; AWS_ENDPOINT_URL |
| ``az://container/prefix`` | the account AZURE_STORAGE_ACCOUNT_NAME | AZURE_STORAGE_ACCOUNT_KEY, or azure-identity |
| ``abfss://container@account.dfs.core.windows.net/prefix`` | the account it names | the same |
| ``gs://bucket/prefix`` | Google Cloud Storage | GOOGLE_APPLICATION_CREDENTIALS, gcloud's; STORAGE_EMULATOR_HOST |
| ``file:///folder``, ``/folder`` | a folder | |
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import msgspec
import obstore
from obstore import exceptions, store

from passerelle.errors import LedgerError, StoreError
from passerelle.ledger.storage import SLOT, SegmentName, segment_name

#: The schemes of addresses in Azure.
AZURE = ("az", "abfs", "abfss")
#: A request is tried again this often, with jitter in between, and for at most RETRY_S seconds.
RETRIES = 4
RETRY_S = 60.0
#: A ledger's request ends after this time: events wait for it in mode durable.
LEDGER_TIMEOUT_S = 10.0
#: Files are moved in parts of this size.
_PART_BYTES = 16 * 2**20

#: Act → scheme → the permission that it needs.
_PERMISSIONS = {
    "read": ("s3:GetObject", "Storage Blob Data Reader", "storage.objects.get"),
    "list": ("s3:ListBucket", "Storage Blob Data Reader", "storage.objects.list"),
    "written": ("s3:PutObject", "Storage Blob Data Contributor", "storage.objects.create"),
    "deleted": ("s3:DeleteObject", "Storage Blob Data Contributor", "storage.objects.delete"),
}
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")


class Found(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """An object that lies in a store."""

    #: Its key below the store's prefix.
    key: str
    size_bytes: int
    #: When it was written, by the store's clock.
    changed_at: datetime
    #: The store's mark of its content: version, or else etag; another content has another one.
    mark: str


class Store:
    """What lies below one address. Keys are relative to it, parts divided by /. Made by open_store.

    All methods raise StoreError, which names the address, the key and the permission that is missing.

    >>> import tempfile
    >>> at = open_store(tempfile.mkdtemp())
    >>> at.put("models/one.bin", b"some bytes")
    True
    >>> [(found.key, found.size_bytes) for found in at.list("models")], at.get("models/one.bin"), at.get("two")
    ([('models/one.bin', 10)], b'some bytes', None)
    """

    def __init__(self, address: str, inner: Any) -> None:
        #: The address, without a / at its end.
        self.address = address
        self._inner = inner

    def put(self, key: str, data: bytes | Path, *, only_new: bool = False) -> bool:
        """Write an object, whole or not at all; a Path is read in parts. Was it written?

        False: ``only_new`` was asked and there is an object of this key, which stays as it is.
        """
        try:
            if only_new:
                content = data.read_bytes() if isinstance(data, Path) else data
                obstore.put(self._inner, key, content, mode="create", use_multipart=False)
            else:
                obstore.put(self._inner, key, data, chunk_size=_PART_BYTES, max_concurrency=4)
        except exceptions.AlreadyExistsError:
            return False
        except _ERRORS as error:
            self._fail("written", key, error)
        return True

    def get(self, key: str) -> bytes | None:
        """What an object holds; None if there is none of this key."""
        try:
            return bytes(obstore.get(self._inner, key).bytes())
        except FileNotFoundError:
            return None
        except _ERRORS as error:
            self._fail("read", key, error)

    def get_file(self, key: str, path: Path) -> bool:
        """Fetch an object into a file, part by part; the file is there when all of it is. False: there is no object."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            with draft.open("xb") as file:
                for part in obstore.get(self._inner, key).stream(min_chunk_size=_PART_BYTES):
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except FileNotFoundError:
            return False
        except _ERRORS as error:
            self._fail("read", key, error)
        finally:
            draft.unlink(missing_ok=True)
        return True

    def list(self, prefix: str = "") -> Iterator[Found]:
        """The objects below a prefix, which ends where a part of the key does; in no certain order."""
        try:
            for some in obstore.list(self._inner, prefix or None, chunk_size=1000):
                for one in some:
                    yield Found(
                        key=one["path"],
                        size_bytes=one["size"],
                        changed_at=one["last_modified"],
                        mark=one["version"] or one["e_tag"] or f"{one['last_modified'].isoformat()} {one['size']}",
                    )
        except FileNotFoundError:
            return
        except _ERRORS as error:
            self._fail("list", prefix, error)

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        try:
            obstore.delete(self._inner, key)
        except FileNotFoundError:
            return
        except _ERRORS as error:
            self._fail("deleted", key, error)

    def _fail(self, act: str, key: str, error: Exception) -> NoReturn:
        scheme = self.address.partition(":")[0]
        place = 0 if scheme == "s3" else 1 if scheme in AZURE else 2
        permission = _PERMISSIONS[act][place] if ":" in self.address else "the folder's"
        where = f"{self.address}/{key}" if key else self.address
        said = "listed" if act == "list" else act
        raise StoreError(
            f"{where} cannot be {said}: {reason(error)}. It needs {permission} there: see who this machine is, that "
            "the bucket is there and can be reached; then try again."
        ) from error


def reason(error: Exception) -> str:
    """Why a request failed, in a few words: never its address, which may hold a signature.

    >>> reason(OSError("Error performing PUT http://h/?sig=x - Server returned non-2xx status code: 403 Forbidden: "
    ...                "<Error><Code>AccessDenied</Code></Error>"))
    '403 Forbidden, AccessDenied'
    """
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if status:
        return status[1].strip() + (f", {code[1]}" if code else "")
    return re.sub(r"\?\S*", "", text.strip().partition("\n")[0])[:300].rstrip(". ")


_ERRORS = (exceptions.BaseError, OSError, ValueError)


def open_store(address: str, *, timeout_s: float = 300.0) -> Store:
    """The store at an address; see the table above. Nothing is asked of it yet.

    A request ends after ``timeout_s`` seconds; one that failed is tried again RETRIES times, and no longer than
    ``timeout_s`` or RETRY_S seconds after the first time, whichever is less.
    Raises StoreError for an address that is none, or credentials that cannot be read.
    """
    address = address.rstrip("/")
    parts = urlsplit(address)
    try:
        return Store(address, _open(parts.scheme, parts.netloc, unquote(parts.path).strip("/"), address, timeout_s))
    except _ERRORS as error:
        raise StoreError(
            f"{address!r} cannot be opened: {reason(error)}. Name it as s3://bucket/prefix, az://container/prefix, "
            "gs://bucket/prefix or a folder, and say who this machine is by the variables in the how-to."
        ) from error


def _open(scheme: str, bucket: str, prefix: str, address: str, timeout_s: float) -> Any:
    options: dict[str, Any] = {
        "prefix": prefix or None,
        "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=min(timeout_s, RETRY_S))},
        "client_options": {"timeout": timedelta(seconds=timeout_s), "connect_timeout": timedelta(seconds=5)},
    }
    if scheme == "s3" and bucket:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
        return store.S3Store(bucket, credential_provider=_of_profile(), **options)
    if scheme in AZURE and bucket:
        container, _, host = bucket.partition("@")
        emulated = os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in ("1", "true")
        endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT", "")
        options["client_options"]["allow_http"] = emulated or endpoint.startswith("http://")
        if host:
            options["account_name"] = host.partition(".")[0]
        return store.AzureStore(container, credential_provider=None if emulated else _of_identity(), **options)
    if scheme == "gs" and bucket:
        emulator = os.environ.get("STORAGE_EMULATOR_HOST")
        if emulator:
            url = emulator if "//" in emulator else f"http://{emulator}"
            options |= {"base_url": url.rstrip("/"), "bearer_token": "emulator"}
            options["client_options"]["allow_http"] = url.startswith("http://")
        return store.GCSStore(bucket, **options)
    if scheme in ("", "file") and prefix:
        return store.LocalStore(Path(address.removeprefix("file://")).absolute(), mkdir=True)
    raise ValueError("it is no address of a store")


def _of_profile() -> Any:
    """AWS: who ~/.aws says we are, which obstore does not read; None where variables or the machine's role say it."""
    said = any(f"AWS_{name}" in os.environ for name in ("ACCESS_KEY_ID", "WEB_IDENTITY_TOKEN_FILE"))
    said |= any(name.startswith("AWS_CONTAINER_") for name in os.environ)
    kept = "AWS_PROFILE" in os.environ or any(
        (Path.home() / ".aws" / name).exists() for name in ("config", "credentials")
    )
    if said or not kept:
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415  (needs boto3, which few have)
    except ImportError as error:
        raise StoreError('~/.aws says who you are, and boto3 reads it: run pip install "passerelle[aws]".') from error
    return Boto3CredentialProvider()


def _of_identity() -> Any:
    """Azure: who azure-identity says we are, if nothing simpler does and it is installed; None: as obstore finds."""
    told = ("ACCOUNT_KEY", "ACCESS_KEY", "SAS_KEY", "SAS_TOKEN", "TOKEN")
    if any(f"AZURE_STORAGE_{name}" in os.environ for name in told):
        return None
    try:
        from obstore.auth.azure import AzureCredentialProvider  # noqa: PLC0415  (needs azure-identity, which few have)
    except ImportError:
        return None
    return AzureCredentialProvider()


def put_folder(address: str, folder: Path) -> None:
    """Copy the files of a folder to an address, each under its path; links are followed. Done again, it does no harm.

    Raises StoreError: some files may be there then; whoever reads names a file that is put last, or checks digests.
    """
    at = open_store(address)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        at.put(path.relative_to(folder).as_posix(), path)


def get_folder(address: str, folder: Path) -> None:
    """Fetch all that lies below an address into a folder, which is there when all of it is: never a half of it.

    A folder that is there already is replaced. Raises StoreError if there is nothing at the address, or a key would
    lead out of the folder; ``folder`` is then as it was.
    """
    at = open_store(address)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        for found in list(at.list()):
            path = draft / found.key
            if not path.resolve().is_relative_to(draft.resolve()):
                raise StoreError(f"{at.address}/{found.key} would be written out of {folder}: remove it there.")
            at.get_file(found.key, path)
        if not draft.exists():
            raise StoreError(
                f"there is nothing at {at.address}: see that the address is right, and what was put there."
            )
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
            folder.rename(old)
            draft.rename(folder)
            shutil.rmtree(old)
        else:
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


class ObjectStorage:
    """Segments as objects below ``address/segments``: each append is one of its own, sealed when it is written.

    Nobody owns a slot: each claim gets a mark of its own, so its writer's numbers are used by nobody else, whoever
    claims the same slot at the same time, and whoever died before. Needs only permission to write for a Writer.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.store = open_store(address, timeout_s=LEDGER_TIMEOUT_S)

    def claim(self, slot: str) -> ObjectSlot:
        """Take a mark, and write it in ``slots/``: who may not write hears it now. See Storage."""
        if not SLOT.fullmatch(slot):
            raise LedgerError(f"{slot!r} cannot name a slot: use letters, digits, - and _, at most 63.")
        writer = f"{slot}.{secrets.token_hex(6)}"
        try:
            self.store.put(f"slots/{writer}", b"")
        except StoreError as error:
            raise LedgerError(f"slot {slot!r} cannot be claimed: {error}") from error
        return ObjectSlot(self, writer)

    def names(self) -> list[SegmentName]:
        """The objects below ``segments/``; see Storage."""
        try:
            found = [segment_name(one.key.rpartition("/")[2]) for one in self.store.list("segments")]
        except StoreError as error:
            raise LedgerError(str(error)) from error
        return sorted(name for name in found if name is not None)

    def read(self, name: SegmentName) -> bytes | None:
        """See Storage."""
        try:
            return self.store.get(f"segments/{name.file}")
        except StoreError as error:
            raise LedgerError(str(error)) from error

    def delete(self, name: SegmentName) -> None:
        """See Storage."""
        try:
            self.store.delete(f"segments/{name.file}")
        except StoreError as error:
            raise LedgerError(str(error)) from error


class ObjectSlot:
    """A claim of a slot in an object store."""

    seals_appends = True

    def __init__(self, storage: ObjectStorage, writer: str) -> None:
        self.writer = writer
        self._store = storage.store
        self._last = 0

    def append(self, data: bytes) -> None:
        """One PUT of a key that nobody else uses; see Slot."""
        self._last += 1
        name = SegmentName(writer=self.writer, sequence=self._last, sealed=True)
        key = f"segments/{name.file}"
        try:
            # There is one already: an earlier try of this very PUT arrived, although its answer was lost.
            if not self._store.put(key, data, only_new=True) and self._store.get(key) != data:
                raise LedgerError(f"{self._store.address}/{key} is there, and is not ours: nothing was acknowledged.")
        except StoreError as error:
            raise LedgerError(f"{error} Nothing was acknowledged.") from error

    def seal(self) -> None:
        """Nothing is open: each append is sealed. See Slot."""

    def asked(self) -> bool:
        """Never: nothing is open. See Slot."""
        return False

    def release(self) -> None:
        """Remove the mark, if we may; one that stays does no harm. See Slot."""
        try:
            self._store.delete(f"slots/{self.writer}")
        except StoreError:
            return
