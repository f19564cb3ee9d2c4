"""Names of packages: which extra of Passerelle brings the one that is missing."""

from __future__ import annotations

from passerelle.errors import MissingExtraError

#: Package imported → the extra of Passerelle that installs it.
EXTRAS = {
    "cryptography": "serve",
    "numpy": "serve",
    "httptools": "serve",
    "onnxruntime": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "alembic": "control",
    "deltalake": "control",
    "duckdb": "control",
    "jinja2": "control",
    "jupytext": "control",
    "markdown_it": "control",
    "mlflow": "control",
    "nbclient": "control",
    "nbconvert": "control",
    "nbformat": "control",
    "onnx": "control",
    "pandas": "control",
    "papermill": "control",
    "pyarrow": "control",
    "rich": "control",
    "sqlalchemy": "control",
    "tomlkit": "control",
}


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The message that names the extra to install for a package that is not there; None if it is not one of ours.

    >>> str(missing_extra(ModuleNotFoundError(name="duckdb")))
    'duckdb is not installed, and this command needs it: run pip install "passerelle[control]".'
    """
    package = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return None
    return MissingExtraError(
        f'{package} is not installed, and this command needs it: run pip install "passerelle[{extra}]".'
    )
