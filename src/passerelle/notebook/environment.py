"""Environment: what a kernel and a clean process are started with, and what is installed there."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Mapping

#: A variable whose name has one of these in it, or as one of its words, holds a secret or opens a door to one.
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH|WEBHOOK|CONN(ECTION)?_?STR|^(AWS|AZURE|GOOGLE)_"
    r"|(^|_)(\w*PWD|PW|PAT|PASS|PASSCODE|PGPASSFILE|NETRC|DSN|CERT|CERTIFICATE|COOKIE|JWT|SAS)(_|$)",
    re.IGNORECASE,
)
#: Of these the secrets are none, whatever their names say: folders, and certificates of authorities, which are public.
_PLAIN = frozenset({"PWD", "OLDPWD", "SSL_CERT_FILE", "SSL_CERT_DIR"})
#: An address with a user or password in it, or a setting of one: "Server=db;Pwd=x", "host=db password=x".
_ADDRESS = re.compile(
    r"://[^/?#\s@]+@|://[^/\s@]*:[^\s@]+@|(^|[;?&\s])(pwd|password|passwd|accountkey|sharedaccesskey|sig|token)\s*=",
    re.IGNORECASE,
)
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
        if name in _PLAIN or not (_SECRET.search(name) or _ADDRESS.search(value) or name in _OF_THIS_INTERPRETER)
    }


# fmt: off
_ALLOWED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH", "CONDA_PREFIX", "R_HOME", "R_LIBS", "R_LIBS_USER", "JAVA_HOME", "SSL_CERT_FILE",
    "SYSTEMROOT", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA",
    "NUMBER_OF_PROCESSORS",
})
# fmt: on
_ALLOWED_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_", "VECLIB_", "NUMEXPR_", "GOMP_", "KMP_")


def allowed_environment() -> dict[str, str]:
    """What a model's own process may see of our environment, and one quiet thread unless ours says otherwise.

    A list of what is allowed: a new secret is not on it. The clean process of submit and the process that serves get
    the same, so that a model which needs more is refused at once.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _ALLOWED or name.upper().startswith(_ALLOWED_PREFIXES)
    }
    return {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MLFLOW_DISABLE_TELEMETRY": "true"} | passed


def installed_packages() -> dict[str, str]:
    """Distribution → version, of all that this interpreter can import."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name, distribution.version)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
