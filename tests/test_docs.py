"""What the documentation quotes is what the program says. PASSERELLE_WRITE_DOCS=1 writes docs/cli.md anew."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from passerelle.cli import main

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cli.md"
HEAD = """# Command line

Every verb, in the order of the path, as `passerelle VERB --help` prints it. Run a verb in the project's folder, or
name the folder: `passerelle -C folder VERB`. `--json` prints what another program can read; of a failure
`{"error": "...", "exit_code": 1}`, while the sentence for a person stays on stderr.

Exit codes: 0 done; 1 something failed; 2 wrong usage or settings; 3 refused by a check (a delivery that breaks the
contract, skew, a row that depends on its neighbours, parity, the gate). The message on stderr says what happened, with
which value, and what to do next.
"""


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(main, [*arguments, "--help"], prog_name="passerelle", terminal_width=100)
    assert result.exit_code == 0, result.output
    return result.output.rstrip()


def page() -> str:
    verbs = [name for name, command in main.commands.items() if not command.hidden]
    parts = [HEAD, f"```text\n{help_of()}\n```\n"]
    for verb in verbs:
        parts.append(f"## {verb}\n\n```text\n{help_of(verb)}\n```\n")
        command = main.commands[verb]
        below = command.commands if isinstance(command, click.Group) else {}
        parts += [f"### {verb} {name}\n\n```text\n{help_of(verb, name)}\n```\n" for name in below]
    return "\n".join(parts)


def test_the_page_of_the_command_line_is_what_help_prints() -> None:
    if os.environ.get("PASSERELLE_WRITE_DOCS"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "write it anew: PASSERELLE_WRITE_DOCS=1 .venv/bin/pytest tests/test_docs.py"


def test_every_option_has_help() -> None:
    below = [one.commands.items() for one in main.commands.values() if isinstance(one, click.Group)]
    for name, command in itertools.chain(main.commands.items(), *below):
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize(
    "path", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda path: path.name
)
def test_verbs_and_options_that_pages_quote_exist(path: Path) -> None:
    for line in re.findall(r"^\$ passerelle (.+)$|`passerelle ([a-z][^`]*)`", path.read_text(), flags=re.MULTILINE):
        words = re.split(r"\s(?:&&|\||#)\s", " ".join(part for part in line if part))[0].split()
        verb = next((word for word in words if not word.startswith("-")), "")
        command = main.commands.get(verb)
        assert command is not None, f"{path.name} quotes passerelle {' '.join(words)}"
        below = words[words.index(verb) + 1 : words.index(verb) + 2]
        if isinstance(command, click.Group) and below and not below[0].startswith("-"):
            assert set(below[0].split("|")) <= command.commands.keys(), f"{path.name}: {verb} has no {below[0]}"
            command = command.commands[below[0].split("|")[-1]]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if re.match(r"--[a-z]", word) and word != "--help":
                assert word.split("=")[0] in known, f"{path.name}: {verb} has no {word}"
