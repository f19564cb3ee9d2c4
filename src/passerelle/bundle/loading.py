"""Loading: a verified bundle's model, in the child. The only place of the bundle room where something is unpickled.

What was verified before the child was started is verified again here: of model.pkl the very bytes that are loaded. The
files of mlflow/ are verified first and then read once more by MLflow itself, so that whoever may write to the bundle's
folder could change them in between.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec

from passerelle.bundle.manifest import MLFLOW, MODEL, Label, Manifest, read_manifest
from passerelle.errors import BundleError
from passerelle.notebook.answers import labels_of

#: The MLflow flavors that give back the fitted estimator, with its predict_proba; all others answer by pyfunc.
NATIVE_FLAVORS = ("sklearn", "lightgbm", "xgboost", "catboost")

#: MLflow's column types → those of pandas, where an event's own type is another.
_CASTS = {"integer": "int32", "float": "float32", "datetime": "datetime64[ns]"}


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can answer."""

    manifest: Manifest
    model: Any
    #: Event rows → what the model takes; None if it takes the rows themselves.
    features: Callable[[Any], Any] | None
    #: Tables → event rows; None if the main table's rows are the events.
    events: Callable[..., Any] | None

    @property
    def classes(self) -> tuple[Label, ...]:
        """The model's own classes_, as JSON values."""
        return tuple(labels_of(self.model) or ())

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that an imported model says it was fitted on, in scikit-learn's way; empty if it does not."""
        said = () if MODEL in self.manifest.files else getattr(self.model, "feature_names_in_", None)
        return () if said is None else tuple(str(name) for name in said)


def load(bundle: Path, digest: str) -> Loaded:
    """Load a bundle's model: model.pkl, or mlflow/. Raises BundleError if it is not what was verified."""
    manifest, found = read_manifest(bundle)
    if found != digest:
        raise BundleError(f"the manifest of {bundle} has the digest {found[:12]}, not {digest[:12]}: it was changed.")
    if MODEL in manifest.files:
        data = (bundle / MODEL).read_bytes()
        _check(data, manifest, MODEL)
        parts = cloudpickle.loads(data)
        return Loaded(
            manifest=manifest, model=parts["model"], features=parts.get("features"), events=parts.get("events")
        )
    return Loaded(manifest=manifest, model=_load_mlflow(bundle, manifest), features=None, events=None)


def _check(data: bytes, manifest: Manifest, name: str) -> None:
    if hashlib.sha256(data).hexdigest() != manifest.files[name]:
        raise BundleError(f"{name} was changed after the bundle was verified.")


def _load_mlflow(bundle: Path, manifest: Manifest) -> Any:
    inside = [name for name in manifest.files if name.startswith(f"{MLFLOW}/")]
    if not inside:
        raise BundleError(f"the bundle has neither {MODEL} nor {MLFLOW}/.")
    for name in inside:
        _check((bundle / name).read_bytes(), manifest, name)
    folder = str(bundle / MLFLOW)
    described = importlib.import_module("mlflow.models").Model.load(folder)
    native = next((flavor for flavor in NATIVE_FLAVORS if flavor in described.flavors), "pyfunc")
    model = importlib.import_module(f"mlflow.{native}").load_model(folder)
    if native != "pyfunc" and manifest.task != "regression" and not hasattr(model, "predict_proba"):
        model = importlib.import_module("mlflow.pyfunc").load_model(folder)
    casts = {
        spec.name: _CASTS[spec.type.name]
        for spec in (described.signature.inputs.inputs if described.signature else ())
        if getattr(spec.type, "name", None) in _CASTS
    }
    return _Cast(model, casts) if casts else model


class _Cast:
    """A model whose MLflow signature has types that events have not: 32 bits, or moments without their zone (UTC)."""

    def __init__(self, model: Any, casts: dict[str, str]) -> None:
        self._model = model
        self._casts = casts

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name not in ("predict", "predict_proba"):
            return found
        return lambda frame: found(self._cast(frame))

    def _cast(self, frame: Any) -> Any:
        columns = {
            name: (frame[name].dt.tz_localize(None) if kind.startswith("datetime") else frame[name]).astype(kind)
            for name, kind in self._casts.items()
        }
        return frame.assign(**columns)
