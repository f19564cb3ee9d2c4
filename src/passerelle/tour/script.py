"""Script: what happens on the way, as the project's ``tour.toml`` says; a project without one lives as it is.

prepare = ["deliveries.py", "incidents.py"]   # run with the folder of deliveries, if that is empty

[[incidents]]
period = "2013-04"                # when this delivery lands ...
deliver = "incidents/weather-celsius-2013-04.csv"     # ... this file lands with it
sentence = "the weather office delivers April in Celsius"

[[incidents]]
period = "2013-06"
notebook = "incidents/leaking.ipynb"  # the run on this delivery executes this notebook
force_gate = true                     # a switch of tests: what the gate refuses becomes a version all the same
settings = { trial = { mode = "split" } }             # these settings hold for what begins then
sentence = "..."

[value]
since = "2013-05"                     # the first period whose loss counts
script = "analysis/value.py"          # prints JSON with instant: the mean loss without trials, computed apart
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

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

    prepare: tuple[str, ...] = ("deliveries.py",)
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
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Script)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"{path}: {error}. Correct it and run the command again.") from error
