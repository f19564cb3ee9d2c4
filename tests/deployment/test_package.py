from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from passerelle.bundle.keys import public_hex, throwaway_key
from passerelle.bundle.manifest import Environment, Manifest, Provenance
from passerelle.bundle.seal import Bundle, close
from passerelle.deployment.package import (
    DEPLOYMENT,
    SIGNATURE,
    Package,
    PackageError,
    open_package,
    pack,
    surplus,
    tarball,
    unpack,
)
from passerelle.deployment.spec import Deployment, Variant
from passerelle.errors import BundleError, DeploymentError
from passerelle.project.served import served
from passerelle.project.settings import Project, load_project
from passerelle.schema import Column, Schema

MADE = datetime(2013, 2, 1, tzinfo=UTC)
KEY, OTHER = throwaway_key(), throwaway_key()
TRUSTED = (public_hex(KEY),)


def sealed(project: Project, name: str) -> Bundle:
    manifest = Manifest(
        project="flights",
        task="binary",
        target="late",
        classes=(False, True),
        schema=Schema(columns=(Column(name="distance", kind="number"),)),
        constants=(name,),
        provenance=Provenance(created_at=MADE),
        environment=Environment(python="python", python_version="3.11", platform="linux", packages={}),
        files={},
    )
    draft = project.root / name
    (draft / "inline").mkdir(parents=True)
    (draft / "inline" / "form.txt").write_text(name)
    (project.state / "bundles").mkdir(parents=True, exist_ok=True)
    return close(draft, manifest, into=project.state / "bundles", key=KEY)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "flights"
    root.mkdir()
    (root / "passerelle.toml").write_text(
        '[project]\nname = "flights"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
    )
    return load_project(root / "passerelle.toml")


@pytest.fixture
def revision(project: Project) -> Deployment:
    first, second = sealed(project, "one"), sealed(project, "two")
    inside = first.path.relative_to(project.root).as_posix()
    return Deployment(
        project="flights",
        environment="production",
        revision=7,
        variants=(
            Variant(version=1, bundle=inside, digest=first.digest),
            Variant(version=2, bundle=str(second.path), digest=second.digest, weight=0.0, mode="shadow"),
        ),
        salt="salt",
        trusted_keys=TRUSTED,
        auth="platform",
        created_at=MADE,
        reason="a test",
    )


@pytest.fixture
def package(project: Project, revision: Deployment, tmp_path: Path) -> Package:
    return pack(project, revision, key=KEY, into=tmp_path / "packages")


def test_a_package_holds_the_revision_its_bundles_and_the_settings_and_opens(
    package: Package, revision: Deployment, project: Project
) -> None:
    opened = open_package(package.folder, TRUSTED)
    assert [one.bundle for one in opened.variants] == [f"bundles/{one.digest}" for one in revision.variants]
    assert msgspec.structs.replace(opened, variants=revision.variants) == revision
    files = {path.relative_to(package.folder).as_posix() for path in package.folder.rglob("*") if path.is_file()}
    inside = ("manifest.json", "signature.json", "inline/form.txt")
    assert files == {DEPLOYMENT, SIGNATURE, "passerelle.toml"} | {
        f"bundles/{one.digest}/{name}" for one in revision.variants for name in inside
    }
    assert (package.folder / "passerelle.toml").read_bytes() == served(project)
    assert package.name == f"000007-{package.digest[:12]}"
    # as the module says, by hand
    lines = [
        f"{hashlib.sha256((package.folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in (DEPLOYMENT, "passerelle.toml")
    ]
    assert package.digest == hashlib.sha256(f"passerelle package 1\n{''.join(lines)}".encode()).hexdigest()


def test_packing_again_and_elsewhere_gives_the_same_bytes(
    project: Project, revision: Deployment, package: Package, tmp_path: Path
) -> None:
    assert pack(project, revision, key=KEY, into=tmp_path / "packages") == package
    other = pack(project, revision, key=KEY, into=tmp_path / "elsewhere")
    assert other.digest == package.digest
    assert not list((tmp_path / "packages").glob(".*"))
    first, second = tarball(package, tmp_path / "a" / "model.tar.gz"), tarball(other, tmp_path / "b.tar.gz")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[4:8] == b"\0" * 4  # gzip's own time
    changed = msgspec.structs.replace(revision, salt="another")
    assert pack(project, changed, key=KEY, into=tmp_path / "packages").digest != package.digest


@pytest.mark.parametrize(
    ("added", "same"),
    [
        ("# a remark\n", True),
        ('[[rules]]\nwatch = "latency"\nthreshold = 0.3\n', True),
        ('[targets.sea]\nkind = "local"\n[gate]\nmargin = 0.1\n[trial]\nmin_days = 3\n[loop]\ntick_s = 5\n', True),
        ("[serving]\nmax_rows = 1000\nport = 9000\n", True),
        ("[serving]\nmax_rows = 999\n", False),
        ("[serving]\ndeadline_ms = 1\n", False),
    ],
)
def test_only_settings_that_the_container_reads_change_the_package(
    project: Project, revision: Deployment, package: Package, *, added: str, same: bool
) -> None:
    path = project.root / "passerelle.toml"
    path.write_text(path.read_text() + added)
    again = pack(load_project(path), revision, key=KEY, into=package.folder.parent)
    assert (again.digest == package.digest) is same


def test_a_package_that_was_cut_short_is_made_anew(project: Project, revision: Deployment, package: Package) -> None:
    (package.folder / SIGNATURE).unlink()
    assert pack(project, revision, key=KEY, into=package.folder.parent) == package
    assert open_package(package.folder, TRUSTED).revision == 7


def test_packing_drops_nothing_and_the_newest_are_no_surplus(
    project: Project, revision: Deployment, tmp_path: Path
) -> None:
    into = tmp_path / "packages"
    assert surplus(into) == []
    made = [
        pack(project, msgspec.structs.replace(revision, revision=number), key=KEY, into=into).folder
        for number in range(1, 7)
    ]
    (into / ".draft-1").mkdir()
    assert all(open_package(folder, TRUSTED).revision == number for number, folder in enumerate(made, 1))
    assert surplus(into) == made[:3]
    assert surplus(into, {2, 6}) == [made[0], made[2]]


def test_a_tarball_unpacks_to_the_package(package: Package, tmp_path: Path) -> None:
    unpacked = unpack(tarball(package, tmp_path / "model.tar.gz"), tmp_path / "opt" / "model")
    assert open_package(unpacked, TRUSTED).revision == 7
    with pytest.raises(PackageError, match="is there already"):
        unpack(tmp_path / "model.tar.gz", unpacked)


@pytest.mark.parametrize("name", [DEPLOYMENT, "passerelle.toml", SIGNATURE])
def test_a_missing_part_is_refused_by_name(package: Package, name: str) -> None:
    (package.folder / name).unlink()
    with pytest.raises(PackageError, match="not signed" if name == SIGNATURE else f"has no {name}"):
        open_package(package.folder, TRUSTED)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (DEPLOYMENT, b'"platform"', b'"tokens"'),
        (DEPLOYMENT, b'"revision": 7', b'"revision": 8'),
        ("passerelle.toml", b"late", b"LATE"),
    ],
)
def test_a_changed_part_is_refused(package: Package, name: str, old: bytes, new: bytes) -> None:
    path = package.folder / name
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    with pytest.raises(PackageError, match="does not belong to deployment"):
        open_package(package.folder, TRUSTED)


def test_another_signer_is_refused_by_its_key(
    project: Project, revision: Deployment, package: Package, tmp_path: Path
) -> None:
    other = pack(project, revision, key=OTHER, into=tmp_path / "other")
    assert other.digest == package.digest
    with pytest.raises(PackageError, match=f"key {public_hex(OTHER)[:16]}, which is not trusted"):
        open_package(other.folder, TRUSTED)
    with pytest.raises(PackageError, match="0 keys are"):
        open_package(package.folder, ())


def test_a_bundles_signature_is_not_one_of_a_package(package: Package, revision: Deployment) -> None:
    bundle = package.folder / "bundles" / revision.variants[0].digest
    shutil.copyfile(bundle / "signature.json", package.folder / SIGNATURE)
    with pytest.raises(PackageError, match="does not belong"):
        open_package(package.folder, TRUSTED)
    (package.folder / SIGNATURE).write_text('{"key": "zz", "signature": ""}')
    with pytest.raises(PackageError, match="not a signature that can be read"):
        open_package(package.folder, TRUSTED)


def test_a_changed_or_missing_bundle_is_refused(package: Package, revision: Deployment) -> None:
    bundle = package.folder / "bundles" / revision.variants[1].digest
    (bundle / "inline" / "form.txt").write_text("tampered")
    with pytest.raises(BundleError, match="was changed or cut short"):
        open_package(package.folder, TRUSTED)
    shutil.rmtree(bundle)
    with pytest.raises(PackageError, match="the bundle of version 2, is not there"):
        open_package(package.folder, TRUSTED)


def test_links_are_refused_and_a_strangers_file_beside_is_let_be(package: Package, tmp_path: Path) -> None:
    (package.folder / "lost+found").mkdir()
    assert open_package(package.folder, TRUSTED).revision == 7
    moved = (package.folder / "bundles").rename(tmp_path / "moved")
    (package.folder / "bundles").symlink_to(moved)
    with pytest.raises(PackageError, match="is a link"):
        open_package(package.folder, TRUSTED)
    kept = (package.folder / DEPLOYMENT).rename(tmp_path / "deployment.json")
    (package.folder / DEPLOYMENT).symlink_to(kept)
    with pytest.raises(PackageError, match="cannot be read"):
        open_package(package.folder, TRUSTED)


def test_what_is_not_whole_is_not_packed(project: Project, revision: Deployment, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="of project 'trains'"):
        pack(project, msgspec.structs.replace(revision, project="trains"), key=KEY, into=tmp_path / "packages")
    (Path(revision.variants[1].bundle) / "inline" / "form.txt").write_text("tampered")
    with pytest.raises(BundleError, match="was changed or cut short"):
        pack(project, revision, key=KEY, into=tmp_path / "packages")
    assert list((tmp_path / "packages").iterdir()) == []


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member("link", tarfile.SYMTYPE)], "'link', which is neither"),
        ([member("hard", tarfile.LNKTYPE)], "'hard', which is neither"),
        ([member("pipe", tarfile.FIFOTYPE)], "'pipe', which is neither"),
        ([member("/etc/absolute")], "leads out"),
        ([member("a/../../b")], "leads out"),
        ([member("a"), member("a")], "twice"),
        ([member("large", content=b"x" * 2000)], "more than 1000 bytes"),
    ],
)
def test_an_archive_is_read_by_allow_list(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], words: str
) -> None:
    path = tmp_path / "in.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for info, content in [member("good"), *members]:
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(PackageError, match=words):
        unpack(path, tmp_path / "out", most_bytes=1000)
    assert [one.name for one in tmp_path.iterdir()] == ["in.tar.gz"]


def test_a_cut_archive_is_refused(package: Package, tmp_path: Path) -> None:
    path = tarball(package, tmp_path / "model.tar.gz")
    data = path.read_bytes()
    for damaged in (data[:-100], data[:-8] + bytes(4) + data[-4:], data[:200]):  # cut; of another sum; cut early
        path.write_bytes(damaged)
        with pytest.raises(PackageError, match=r"is not a whole \.tar\.gz"):
            unpack(path, tmp_path / "out")
