"""Place: which folders can hold a project."""

from __future__ import annotations

import re
from pathlib import Path

from passerelle.errors import SettingsError

#: delta-rs reads these in a folder's path as something else, or stops at them: control characters, bytes that are no
#: UTF-8, [ ] \ ^ |, and % with two digits after it.
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\[\]\\^|]|%[0-9A-Fa-f]{2}")


def refuse_unfit(folder: Path) -> None:
    """Raise SettingsError, naming the characters, for a path in which the tables could not be kept.

    >>> refuse_unfit(Path("/home/zoé/100 % mine, #1?"))
    >>> refuse_unfit(Path("/home/zoe/a%20b"))
    Traceback (most recent call last):
    passerelle.errors.SettingsError: '/home/zoe/a%20b' cannot hold a project: its tables cannot be kept in a folder ...
    """
    if found := _UNFIT.search(str(folder)):
        raise SettingsError(
            f"{str(folder)!r} cannot hold a project: its tables cannot be kept in a folder with {found[0]!r} in its "
            "path. Move the project, or rename the folder."
        )
