"""Form: what a model computes, as a list of steps and their arrays: no code, nothing to unpickle.

A form is made twice. ``export`` describes the model where it lives (its own environment: numpy and its own library);
``compile`` then writes the trees as ONNX, where Passerelle lives. Both are a folder of

| file | what |
|---|---|
| form.json | the steps, in order; the last one's matrix is the answer |
| arrays.npz | their arrays: every number that is not a place or a width, so that each keeps its 64 bits |
| trees-N.onnx | the trees of step N; only once it is compiled |

A step reads fields of the event or the matrices of earlier steps, and makes a float64 matrix of shape (rows, width).
"""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.decoding import prepared
from passerelle.errors import BundleError, PasserelleError

FORMAT = 1
FORM = "form.json"
ARRAYS = "arrays.npz"

Array = NDArray[Any]


class Unsupported(PasserelleError):  # noqa: N818  (not an error: it means that the process scorer serves the model)
    """The model has a step that has no code-free form: it is served by the process scorer."""


class Slot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column on its way: a field of the event, or a column of an earlier step's matrix."""

    #: The field's name; empty if it is an earlier step's.
    field: str = ""
    step: int = -1
    column: int = 0


class Lookup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each value of one column becomes.

    ``values`` has one number per key, then the one for a missing value, then the one for any other value; infinity
    means that the model refuses it.
    """

    slot: Slot
    #: The known strings; None if the known values are numbers.
    texts: tuple[str, ...] | None = None
    #: The known numbers.
    numbers: Array | None = None
    values: Array


class Step(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """What a form is made of; each subclass says what its matrix holds."""


class Gather(Step, frozen=True, kw_only=True, tag=True):
    """These columns, side by side; fields as numbers, NaN where missing."""

    slots: tuple[Slot, ...]


class Impute(Step, frozen=True, kw_only=True, tag=True):
    """``source`` with ``fill`` (one per column) wherever it equals ``missing`` (one number; NaN for NaN)."""

    source: int
    missing: Array
    fill: Array


class Indicate(Step, frozen=True, kw_only=True, tag=True):
    """1 where ``columns`` of ``source`` equal ``missing``, else 0."""

    source: int
    missing: Array
    columns: Array


class Affine(Step, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """``source`` less ``subtract``, divided by ``divide``, times ``multiply``, plus ``add``, cut to [low, high].

    Each is one number per column or is left out; the order is the one in which the scalers compute.
    """

    source: int
    subtract: Array | None = None
    divide: Array | None = None
    multiply: Array | None = None
    add: Array | None = None
    low: Array | None = None
    high: Array | None = None


class Apply(Step, frozen=True, kw_only=True, tag=True):
    """A function of the numbers (or, for softmax and normalise, of each row), by its name in ``program.FUNCTIONS``."""

    source: int
    function: str


class OneHot(Step, frozen=True, kw_only=True, tag=True):
    """Zeros, with a 1 at the position that each lookup gives; at none where it gives -1."""

    lookups: tuple[Lookup, ...]
    width: int


class Recode(Step, frozen=True, kw_only=True, tag=True):
    """A column per lookup: the number that it gives."""

    lookups: tuple[Lookup, ...]


class Interpolate(Step, frozen=True, kw_only=True, tag=True):
    """Linear interpolation of the one column of ``source`` between the points (x, y); level outside them."""

    source: int
    x: Array
    y: Array


class Average(Step, frozen=True, kw_only=True, tag=True):
    """The mean of earlier steps' matrices."""

    sources: tuple[int, ...]


class Linear(Step, frozen=True, kw_only=True, tag=True):
    """``source`` @ ``weights`` + ``intercept``; weights of shape (columns, outputs). NaN is refused."""

    source: int
    weights: Array
    intercept: Array


class Forest(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes of many trees, in the layout of ONNX's TreeEnsemble (ai.onnx.ml 5): all arrays of one length.

    A node sends a row to its *true* child if its feature is <= ``threshold``, or, where ``is_member``, if it is one of
    the node's ``members`` (whole numbers from 1); where ``missing_true``, also if it is NaN. A tree that is one leaf
    has no node: it is part of ``Trees.base``.
    """

    #: The root node of each tree.
    roots: Array
    feature: Array
    threshold: Array
    missing_true: Array
    is_member: Array
    #: Each member node's members, then NaN, in the order of the nodes.
    members: Array
    #: The number of the child: a node's, or, where the child is a leaf, a leaf's.
    true_child: Array
    false_child: Array
    true_is_leaf: Array
    false_is_leaf: Array
    #: What each leaf adds, and to which output.
    leaf_weight: Array
    leaf_target: Array


class Trees(Step, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """``base`` + the sum over the trees of their leaves / ``divide``."""

    source: int
    outputs: int
    base: Array
    divide: Array
    #: Before compilation.
    forest: Forest | None = None
    #: If each leaf has a number per output: its rows; the trees then give the number of the row, a column each.
    leaves: Array | None = None
    #: Does the model round its inputs to float32 first, as scikit-learn's own trees do?
    rounded: bool = False
    #: Does the model refuse NaN?
    finite: bool = False


AnyStep = Gather | Impute | Indicate | Affine | Apply | OneHot | Recode | Interpolate | Average | Linear | Trees


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A model without code."""

    #: How many numbers a row is answered with.
    outputs: int
    steps: tuple[AnyStep, ...]
    format: int = FORMAT


def trees_file(step: int) -> str:
    """The ONNX file of a step's trees.

    >>> trees_file(3)
    'trees-3.onnx'
    """
    return f"trees-{step}.onnx"


def write_form(form: Form, folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a form and its further files to a folder, whole or not at all; what the folder held is replaced."""
    arrays: dict[str, Array] = {}

    def name_of(value: Any) -> str:
        if not isinstance(value, np.ndarray):
            raise NotImplementedError(f"{type(value)} in a form")
        name = f"a{len(arrays)}"
        arrays[name] = value
        return name

    text = msgspec.json.encode(form, enc_hook=name_of)
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    (draft / FORM).write_bytes(text)
    (draft / ARRAYS).write_bytes(packed.getvalue())
    for name, data in files.items():
        (draft / name).write_bytes(data)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def read_form(folder: Path) -> Form:
    """Read what write_form wrote. Raises BundleError if it is damaged, incomplete or of a newer format."""
    try:
        data = (folder / FORM).read_bytes()
        number = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format", msgspec.Raw(b"0"))
        if (found := msgspec.json.decode(number, type=int)) > FORMAT:
            raise BundleError(f"{folder} is of format {found} and this Passerelle reads {FORMAT}: upgrade Passerelle.")
        with np.load(io.BytesIO((folder / ARRAYS).read_bytes()), allow_pickle=False) as arrays:
            form = msgspec.json.decode(data, type=prepared(Form), dec_hook=lambda _, name: arrays[name])
    except (OSError, KeyError, ValueError, msgspec.DecodeError, zipfile.BadZipFile) as error:
        raise BundleError(f"the compiled form in {folder} is damaged ({error}): fetch the bundle again.") from error
    _refuse_forward_references(form, folder)
    return form


def _refuse_forward_references(form: Form, folder: Path) -> None:
    """A step reads only steps before it, so that a form can be run in one pass."""
    if not form.steps:
        raise BundleError(f"the compiled form in {folder} has no steps: fetch the bundle again.")
    for number, step in enumerate(form.steps):
        if any(source >= number for source in sources_of(step)):
            raise BundleError(f"step {number} of the form in {folder} reads a later one: fetch the bundle again.")


def sources_of(step: AnyStep) -> tuple[int, ...]:
    """The earlier steps that a step reads."""
    match step:
        case Gather(slots=slots):
            return tuple(slot.step for slot in slots if not slot.field)
        case OneHot(lookups=lookups) | Recode(lookups=lookups):
            return tuple(lookup.slot.step for lookup in lookups if not lookup.slot.field)
        case Average(sources=sources):
            return sources
        case _:
            return (step.source,)
