"""The guides to the clouds: ten commands at most, of options and files that exist, and what no test of ours proves."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from passerelle.cli import main
from passerelle.deployment.policies import policies
from passerelle.project.settings import load_project

ROOT = Path(__file__).parents[1]
GUIDES = {name: ROOT / "docs/howto" / f"{name}.md" for name in ("sagemaker", "azureml", "vertex", "kubernetes")}
HEAD = '[project]\nname = "flights"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
#: Words in capitals that a command leaves to its reader; the page says below it what each is.
TO_FILL_IN = {
    "sagemaker": {"DEPLOYER"},
    "azureml": {"YOU", "IDENTITY"},
    "vertex": {"user:YOU"},
    "kubernetes": set[str](),
}


def commands(page: str, heading: str = "The first deployment, in ten commands") -> list[list[str]]:
    """The commands of a section's first block, in words; each is one line."""
    block = re.search(rf"^## {heading}\n\n```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert block is not None, heading
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


def parsed(words: list[str]) -> None:
    """Run `passerelle WORDS` as far as its options: what is missing or unknown is told before --help is obeyed."""
    command: click.Command = main
    name, *taken = words
    above: click.Context | None = None
    while isinstance(command, click.Group):
        above = click.Context(command, parent=above, info_name=name, **command.context_settings)
        name, *taken = taken
        command = command.commands[name]
    # Below its group's context: a command asked alone keeps the help option of one that has no group.
    assert command.make_context(name, list(taken), parent=above).params
    done = CliRunner().invoke(main, [*words[1:], "--help"])
    assert done.exit_code == 0, done.output


@pytest.fixture(params=GUIDES)
def guide(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_ten_commands_and_nothing_left_to_guess(guide: str) -> None:
    found = commands(GUIDES[guide].read_text())
    assert len(found) <= 10, "the heading says ten"
    assert not [words for words in found for word in words if "…" in word or "..." in word or word == "&&"]
    left = {word for words in found for word in words if re.search(r"(?<![A-Z])[A-Z]{3,}(?![A-Z])", word)}
    assert left - {"AWS"} == TO_FILL_IN[guide]
    told = GUIDES[guide].read_text().partition("in ten commands\n")[2].partition("```sh\n")[2].partition("```")[2]
    for word in TO_FILL_IN[guide]:
        assert f"`{word}`" in told or f"{word} below" in GUIDES[guide].read_text(), f"what is {word}?"
    verbs = [" ".join(words[:2]) for words in found]
    # Installed, allowed, signed in to the registry, built and pushed, deployed: in this order.
    due = ["pip install", "passerelle target", "passerelle image", "passerelle deploy"]
    assert [verb for verb in verbs if verb in due] == due
    logins = [number for number, words in enumerate(found) if "buildah" in words and "login" in words]
    assert [number < verbs.index("passerelle image") for number in logins] == [True]


def test_each_verb_of_ours_takes_these_options(guide: str) -> None:
    page = GUIDES[guide].read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("passerelle ")]
    assert len(lines) >= 3
    for line in lines:
        parsed(shlex.split(line, comments=True))


def test_an_option_that_is_not_there_is_seen() -> None:
    parsed(["passerelle", "image", "--push"])
    for wrong in (["image", "--pull"], ["target", "policies"], ["deploy", "3", "--target"]):
        with pytest.raises(click.UsageError):
            parsed(["passerelle", *wrong])


def test_the_files_are_those_that_are_written_from_the_settings_shown(guide: str, tmp_path: Path) -> None:
    page = GUIDES[guide].read_text()
    shown = re.search(r"^```toml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert shown is not None
    (tmp_path / "passerelle.toml").write_text(HEAD + shown[1])
    project = load_project(tmp_path / "passerelle.toml")
    (target,) = project.targets
    written = set(policies(project, target))
    block = re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"(?:file://|@|\s)policies/([\w.-]+\.\w+)", "\n".join(block)))
    assert named
    assert named <= written
    # And each is for something: a command, or a line of the page.
    assert [name for name in written if name not in page] == []
    taken = [words[words.index("--target") + 1] for words in commands(page) if "--target" in words]
    assert taken == [target, target]


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDES.values()], ids=lambda path: path.stem)
def test_what_is_untested_is_said(page: Path) -> None:
    """In one sentence, on the page itself: what the tests judge by, and what no test of ours can show."""
    text = " ".join(page.read_text().split())
    found = re.search(r"[^.]*\bpermissions, quotas, timing,? [^.]*\bstart of images there are untested", text)
    assert found is not None
    assert re.search(r"checked(, in our tests,)? (in the tests )?against", text[: found.end()])
    assert re.search(
        r"(nothing|has) [^.]*\brun\b|run on no", text[max(0, found.start() - 200) : found.end()], re.IGNORECASE
    )
