"""Script: what happens on the way, as the project's ``tour.toml`` says; a project without one lives as it is.

| key | what |
|---|---|
| prepare | scripts that write the deliveries, in place of those that stand there |
| [[incidents]] period, sentence | as the events of this delivery begin, and the one before it lands, this happens: |
| deliver | this file lands too, before the delivery |
| notebook | the run that is made then executes this notebook |
| force_gate | a switch of tests: what the gate refuses becomes a version all the same |
| settings | section → key → value: settings that hold for what begins then |
| [value] since | the first period whose loss counts |
| script | prints JSON with ``instant``: the mean loss without trials, computed apart |

docs/tour.md has an example.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import SettingsError

FILE = "tour.toml"


class Incident(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[incidents]]: something that happens as a period begins, when the delivery before it lands."""

    #: The stamp of the delivery whose events begin: what its files' names have after the table's.
    period: str
    #: What happens, for people.
    sentence: str
    #: A file that lands then, before the delivery, from the project's folder.
    deliver: str | None = None
    #: The notebook that the run made then executes.
    notebook: str | None = None
    #: Does what the gate refuses become a version all the same?
    force_gate: bool = False
    #: Section → key → value of passerelle.toml, for what begins then.
    settings: dict[str, dict[str, Any]] = {}


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[value]: what the loop was worth, beside a model never retrained and one retrained without trials."""

    #: The first period whose loss counts.
    since: str
    #: A script of the project that prints JSON with ``instant``; it is given ``--json`` and ``--months N``.
    script: str | None = None


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """tour.toml."""

    #: Scripts of the project, each given the folder of deliveries, which is empty at first; none: what stands there.
    prepare: tuple[str, ...] = ()
    incidents: tuple[Incident, ...] = ()
    value: Value | None = None

    def of(self, period: str) -> tuple[Incident, ...]:
        """What happens as this period begins."""
        return tuple(one for one in self.incidents if one.period == period)


def load_script(root: Path) -> Script:
    """The project's script; an empty one if it has none. Raises SettingsError, naming the file and the key."""
    path = root / FILE
    if not path.exists():
        return Script()
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), prepared(Script))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"{path}: {error}. Correct it and run the command again.") from error
