"""Statics: the files that pages need, ours and plotly's script."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from passerelle.errors import PasserelleError

_STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PLOTLY = "plotly.min.js"


class NoSuchPageError(PasserelleError):
    """There is nothing here: go to the path now."""


async def static(request: Request) -> Response:
    """The page's own files, and plotly's script from its package: no file of another name."""
    name = request.path_params["name"]
    headers = {"Cache-Control": "max-age=31536000, immutable" if "v" in request.query_params else "no-cache"}
    if name == _PLOTLY:
        return Response(_plotly(), media_type="text/javascript", headers={**headers, "Content-Encoding": "gzip"})
    if name not in {path.name for path in _STATIC.iterdir()}:
        raise NoSuchPageError
    path = _STATIC / name
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=headers)


@lru_cache(maxsize=1)
def _plotly() -> bytes:
    """Plotly's script as its package has it, compressed once: 1.4 MB instead of 4.8."""
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise NoSuchPageError("The charts need plotly: pip install 'passerelle[control]'.")
    return gzip.compress((Path(found.origin).parent / "package_data" / _PLOTLY).read_bytes(), mtime=0)


@lru_cache(maxsize=1)
def plotly_version() -> str:
    """Plotly's version, of which its script's address tells."""
    return importlib.metadata.version("plotly")
