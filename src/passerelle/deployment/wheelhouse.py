"""Wheelhouse: a folder with every wheel that an image installs, and the requirements that name them by their sha256.

So an image is built without a network, and what is installed is what was looked at. Wheels that are in the folder
already are taken: those of packages that no index has are put there by hand.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

import passerelle
from passerelle.deployment.image_facts import ImageError

NAME = "passerelle"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: The newest glibc (2.N) that a wheel may ask for: Debian 12's.
GLIBC = 36

_OLDEST_GLIBC = 17
_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
_DOWNLOAD_S = 1800


def pins(extras: Sequence[str], python_version: str) -> dict[str, str]:
    """Distribution → version, of Passerelle with these extras and all that they need, as installed here.

    ``python_version`` ("3.11") and Linux are what the markers are read for. Raises ImageError if an extra is not
    installed here: what has not been run together is not put into an image.
    """
    own = importlib.metadata.metadata(NAME).get_all("Provides-Extra") or []
    if missing := sorted(set(extras) - set(own)):
        raise ImageError(f"the Passerelle that runs here has no extra {', '.join(missing)}: install it again.")
    machine = {str(key): str(value) for key, value in default_environment().items()}
    machine |= {"python_version": python_version, "sys_platform": "linux", "platform_system": "Linux"}
    found: dict[str, str] = {}
    todo = [(NAME, frozenset(extras))]
    seen = set(todo)
    while todo:
        name, wanted = todo.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise ImageError(
                f"{name} is not installed here, and the image needs it: pip install 'passerelle[{','.join(extras)}]'."
            ) from error
        found[str(canonicalize_name(name))] = distribution.version
        for line in distribution.requires or ():
            needed = Requirement(line)
            marker = needed.marker
            if marker is None or any(marker.evaluate(machine | {"extra": extra}) for extra in (*sorted(wanted), "")):
                one = (str(canonicalize_name(needed.name)), frozenset(needed.extras))
                if one not in seen:
                    seen.add(one)
                    todo.append(one)
    return dict(sorted(found.items()))


def gather(packages: Mapping[str, str], wheels: Path, *, python_version: str, architecture: str) -> None:
    """Have pip bring the wheels of these packages, but for Passerelle's own, which is made from what runs here.

    ``python_version`` is the whole of it ("3.11.9"): "3.11" is 3.11.0 to pip, and some wheels want 3.11.5.
    Raises ImageError, in pip's words, for a package that no index has as a wheel for this Python and processor.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    own_wheel(wheels)
    names = [f"manylinux_2_{number}" for number in range(GLIBC, _OLDEST_GLIBC - 1, -1)] + ["manylinux2014"]
    platforms = [part for name in names for part in ("--platform", f"{name}_{MACHINES[architecture]}")]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listed:
        listed.writelines(f"{name}=={version}\n" for name, version in packages.items() if not _is_ours(name))
        listed.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python_version, *platforms]
        command += ["--find-links", str(wheels), "--dest", str(wheels), "--requirement", listed.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)  # noqa: S603  (our own interpreter, no shell)
    if done.returncode != 0:
        raise ImageError(
            f"pip brings no wheel of something that the version was made with: {done.stderr.strip()[-2000:]} Make it "
            f"yourself (pip wheel --no-deps PACKAGE -w {wheels}), and run this again."
        )


def requirements(packages: Mapping[str, str], wheels: Path) -> str:
    """A requirements file for these packages, each with the sha256 of its wheels. Raises ImageError if one has none.

    Passerelle's version is the one whose wheel is there, whatever is asked for.
    """
    hashes: dict[tuple[str, str], list[str]] = {}
    for path in sorted(wheels.glob("*.whl")):
        try:
            distribution, built, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename as error:
            raise ImageError(f"{path} has not the name of a wheel: remove it.") from error
        hashes.setdefault((str(distribution), str(built)), []).append(hashlib.sha256(path.read_bytes()).hexdigest())
    lines = []
    for name, asked in sorted(packages.items(), key=lambda item: canonicalize_name(item[0])):
        known = str(canonicalize_name(name))
        version = importlib.metadata.version(NAME) if _is_ours(name) else asked
        found = next((sums for (one, of), sums in hashes.items() if one == known and _same(of, version)), None)
        if found is None:
            raise ImageError(f"there is no wheel of {name} {version} in {wheels}: put one there.")
        lines.append(" \\\n".join([f"{known}=={version}", *(f"    --hash=sha256:{one}" for one in found)]))
    return "\n".join(lines) + "\n"


def own_wheel(into: Path) -> Path:
    """Write the Passerelle that runs here as a wheel, to the byte the same each time. Returns its path."""
    distribution = importlib.metadata.distribution(NAME)
    source = Path(passerelle.__file__).parent
    stem = f"{NAME}-{distribution.version}"
    for old in into.glob(f"{NAME}-*.whl"):
        old.unlink()
    metadata = distribution.read_text("METADATA") or ""
    parts = {
        f"{NAME}/{path.relative_to(source).as_posix()}": path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    parts[f"{stem}.dist-info/METADATA"] = metadata.encode()
    parts[f"{stem}.dist-info/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: passerelle\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    parts[f"{stem}.dist-info/entry_points.txt"] = (distribution.read_text("entry_points.txt") or "").encode()
    record = "".join(f"{name},{_sum(body)},{len(body)}\n" for name, body in parts.items())
    parts[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    path = into / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, body in parts.items():
            member = zipfile.ZipInfo(name, _FIRST_DATE)
            member.external_attr = 0o644 << 16
            wheel.writestr(member, body, zipfile.ZIP_DEFLATED)
    return path


def _sum(body: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


def _is_ours(name: str) -> bool:
    return canonicalize_name(name) == NAME


def _same(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
