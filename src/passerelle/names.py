"""Names: of adapters, which are loaded when they are needed, and of the extra that brings a package that is missing."""

from __future__ import annotations

import importlib
from typing import Any

from passerelle.errors import MissingExtraError

#: Kind of a target, or scheme of an address → the class that serves it, as module:Class.
ADAPTERS = {
    "local": "passerelle.adapters.local:LocalTarget",
    "sagemaker": "passerelle.adapters.sagemaker:SageMakerTarget",
    "azureml": "passerelle.adapters.azureml:AzureMLTarget",
    "vertex": "passerelle.adapters.vertex:VertexTarget",
    "kubernetes": "passerelle.adapters.kubernetes:KubernetesTarget",
    "s3": "passerelle.adapters.objectstore:ObjectStorage",
    "gs": "passerelle.adapters.objectstore:ObjectStorage",
    "az": "passerelle.adapters.objectstore:ObjectStorage",
    "abfss": "passerelle.adapters.objectstore:ObjectStorage",
}

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
    "packaging": "control",
    "pandas": "control",
    "papermill": "control",
    "pyarrow": "control",
    "requests": "control",
    "rich": "control",
    "sqlalchemy": "control",
    "tomlkit": "control",
    "azure": "azure",
    "boto3": "aws",
    "botocore": "aws",
    "google": "gcp",
    "obstore": "stores",
    "psycopg": "postgresql",
}


def load(spec: str) -> Any:
    """What a ``module:name`` names. Raises MissingExtraError, naming the extra, if a package that it needs is missing.

    >>> load("passerelle.names:ADAPTERS") is ADAPTERS
    True
    """
    module, _, name = spec.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        known = missing_extra(error)
        if known is None:
            raise
        raise known from error
    return getattr(found, name)


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
