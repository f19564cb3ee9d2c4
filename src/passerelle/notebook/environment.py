"""Environment: what a kernel and a clean process are started with, and what is installed there."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

#: A variable whose name says one of these holds a secret, or opens a door to one.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|^(AWS|AZURE|GOOGLE)_", re.IGNORECASE)
#: An address with a password in it.
_ADDRESS = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
#: Where another interpreter would look for its library.
_OF_THIS_INTERPRETER = frozenset({"PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__"})


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that code of a notebook may see: none that holds a secret by its name or in an address.

    >>> without_secrets({"PATH": "/bin", "MY_API_KEY": "x", "AWS_REGION": "y", "DB": "postgres://me:pw@host/db"})
    {'PATH': '/bin'}
    """
    return {
        name: value
        for name, value in environment.items()
        if not _SECRET.search(name) and not _ADDRESS.search(value) and name not in _OF_THIS_INTERPRETER
    }


def installed_packages() -> dict[str, str]:
    """Distribution → version, of all that this interpreter can import."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name, distribution.version)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
