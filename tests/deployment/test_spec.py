from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from passerelle.deployment.spec import Deployment, Revisions, Variant, environment_folder
from passerelle.errors import DeploymentError

MADE = datetime(2013, 2, 1, tzinfo=UTC)


def variant(version: int, **changes: Any) -> Variant:
    return Variant(**{"version": version, "bundle": f"/bundles/{version}", "digest": f"{version:064x}", **changes})


def deployment(revision: int, *variants: Variant, **changes: Any) -> Deployment:
    return Deployment(
        **{
            "project": "flights",
            "environment": "production",
            "revision": revision,
            "variants": variants or (variant(1),),
            "salt": "salt",
            "created_at": MADE,
            "reason": "a test",
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([], "needs a live variant"),
        ([variant(1, mode="shadow", weight=0)], "needs a live variant"),
        ([variant(1, weight=0.5)], r"weights of the live variants are \[0.5\]"),
        ([variant(1, weight=0.6), variant(2, weight=0.6)], "their sum 1"),
        ([variant(1, weight=1.0), variant(2, weight=0.0)], "make each > 0"),
        ([variant(1, weight=1.5), variant(2, weight=-0.5)], "make each > 0"),
        ([variant(1), variant(1, mode="shadow", weight=0)], r"a version stands twice among \[1, 1\]"),
    ],
)
def test_what_cannot_be_served_cannot_be_made(variants: list[Variant], words: str) -> None:
    with pytest.raises(DeploymentError, match=words):
        Deployment(
            project="flights",
            environment="production",
            revision=1,
            variants=tuple(variants),
            salt="s",
            created_at=MADE,
            reason="a test",
        )


def test_weights_may_be_rounded() -> None:
    split = deployment(1, *(variant(number, weight=0.1) for number in range(1, 11)))
    assert len(split.live) == 10


def test_live_and_shadow_are_told_apart() -> None:
    one = deployment(1, variant(1), variant(2, mode="shadow", weight=0))
    assert [each.version for each in one.live] == [1]
    assert [each.version for each in one.shadows] == [2]


def test_a_revision_is_read_as_it_was_put_and_stays(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path / "production")
    assert (revisions.numbers(), revisions.current()) == ([], None)
    first = deployment(1, trusted_keys=("k" * 64,), privacy={"name": "hash"}, trial="t", unit="tail", time="at")
    second = deployment(2, variant(2), reason="newer")
    revisions.put(first, after=0)
    revisions.put(second, after=1)
    assert revisions.numbers() == [1, 2]
    assert revisions.get(1) == first
    assert revisions.current() == second
    assert sorted(path.name for path in revisions.folder.iterdir()) == ["000001.json", "000002.json"]


def test_there_is_no_limit_of_six_digits(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path)
    for number in (999_999, 1_000_000):
        (tmp_path / f"{number:06d}.json").write_bytes(msgspec.json.encode(deployment(number)))
    current = revisions.current()
    assert current is not None
    assert current.revision == 1_000_000


def test_whoever_decided_on_an_older_revision_changes_nothing(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path)
    revisions.put(deployment(1), after=0)
    revisions.put(deployment(2), after=1)
    with pytest.raises(DeploymentError, match="revision 2 was made while you were deciding on 1"):
        revisions.put(deployment(2, variant(9)), after=1)
    with pytest.raises(DeploymentError, match="revision 5 cannot follow 2"):
        revisions.put(deployment(5), after=2)
    with pytest.raises(DeploymentError, match="deciding on 3"):
        revisions.put(deployment(4), after=3)  # there is no 3
    assert revisions.current() == deployment(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001.json", "000002.json"]


def test_a_missing_and_a_damaged_revision_are_named(tmp_path: Path) -> None:
    revisions = Revisions(tmp_path)
    revisions.put(deployment(1), after=0)
    with pytest.raises(DeploymentError, match=r"there is no revision 7 in .*; there are \[1\]"):
        revisions.get(7)
    (tmp_path / "000002.json").write_text('{"project": "fli')
    with pytest.raises(DeploymentError, match=r"000002.json is damaged .*restore it"):
        revisions.current()


RACE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from passerelle.deployment.spec import Deployment, Revisions, Variant
from passerelle.errors import DeploymentError

me, folder, goal = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
revisions = Revisions(folder)
won = lost = 0
print("ready", flush=True)
sys.stdin.readline()
while True:
    after = (revisions.numbers() or [0])[-1]
    if after >= goal:
        break
    try:
        revisions.put(
            Deployment(
                project="flights", environment="production", revision=after + 1, salt="s", reason=f"{me} {won}",
                variants=(Variant(version=1, bundle="/b", digest="d"),), created_at=datetime(2013, 2, 1, tzinfo=UTC),
            ),
            after=after,
        )
        won += 1
    except DeploymentError:
        lost += 1
print(won, lost)
"""


def test_of_two_processes_that_race_one_wins_each_revision(tmp_path: Path) -> None:
    """Both read the newest revision and try to follow it, two hundred times: every revision is whole and one's own."""
    goal = 200
    folder = environment_folder(tmp_path, "production")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, name, str(folder), str(goal)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    results = []
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, _ = racer.communicate(timeout=60)
        assert racer.returncode == 0
        results.append([int(number) for number in out.split()])
    assert sum(won for won, _ in results) == goal
    revisions = Revisions(folder)
    assert revisions.numbers() == list(range(1, goal + 1))
    reasons = [revisions.get(number).reason for number in revisions.numbers()]
    for name, (won, _) in zip(("a", "b"), results, strict=True):
        assert [reason for reason in reasons if reason.startswith(name)] == [f"{name} {each}" for each in range(won)]
    assert not [name for name in os.listdir(folder) if name.startswith(".")]  # noqa: PTH208  (hidden files too)
    assert min(won for won, _ in results) > 0  # they did race


@pytest.mark.parametrize("name", ["", "../../../esc", "..", "/esc", "Production", "a/b", "staging\n", "s" * 64])
def test_an_environment_cannot_be_named_out_of_the_project(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeploymentError, match="cannot name an environment: take a small letter"):
        environment_folder(tmp_path, name)
