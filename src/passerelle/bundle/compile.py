"""Compile: the trees of a described form as ONNX, with thresholds and sums in float64.

``TreeEnsemble`` of ai.onnx.ml 5 is the first operator that takes double tensors; ONNX Runtime then compares and adds
in double (the older TreeEnsembleRegressor answers in float32, however its trees are stored).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from passerelle.bundle.form import AnyStep, Array, Forest, Trees, read_form, trees_file, write_form

#: Of TreeEnsemble: aggregate_function SUM, post_transform NONE, nodes_modes.
_SUM, _NONE, _LEQ, _MEMBER = 1, 0, 0, 6

#: The oldest that know ai.onnx.ml 5, so that every ONNX Runtime that can run it loads it.
_OPSET, _TREES_OPSET, _IR = 21, 5, 10


def compile_form(described: Path, into: Path) -> None:
    """Read what ``export`` wrote and write the form that ``Program`` runs, whole or not at all.

    Raises BundleError if the description is damaged.
    """
    form = read_form(described)
    steps: list[AnyStep] = []
    files: dict[str, bytes] = {}
    for number, step in enumerate(form.steps):
        if isinstance(step, Trees) and step.forest is not None and len(step.forest.roots):
            files[trees_file(number)] = onnx_trees(step.forest, step.outputs)
            steps.append(msgspec.structs.replace(step, forest=None))
        else:
            steps.append(step)
    write_form(msgspec.structs.replace(form, steps=tuple(steps)), into, files)


def onnx_trees(forest: Forest, outputs: int) -> bytes:
    """An ONNX model of one node: x, double (rows, features) → y, double (rows, outputs), the sums of the leaves."""
    node = helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=outputs,
        aggregate_function=_SUM,
        post_transform=_NONE,
        tree_roots=_integers(forest.roots),
        nodes_featureids=_integers(forest.feature),
        nodes_splits=numpy_helper.from_array(forest.threshold),
        nodes_modes=numpy_helper.from_array(np.where(forest.is_member, _MEMBER, _LEQ).astype(np.uint8)),
        nodes_missing_value_tracks_true=_integers(forest.missing_true),
        nodes_truenodeids=_integers(forest.true_child),
        nodes_falsenodeids=_integers(forest.false_child),
        nodes_trueleafs=_integers(forest.true_is_leaf),
        nodes_falseleafs=_integers(forest.false_is_leaf),
        leaf_weights=numpy_helper.from_array(forest.leaf_weight),
        leaf_targetids=_integers(forest.leaf_target),
        **({"membership_values": numpy_helper.from_array(forest.members)} if len(forest.members) else {}),
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, None])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, outputs])],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _TREES_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="passerelle")
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _integers(array: Array) -> list[int]:
    """Python's own integers: the protobuf of some versions refuses numpy's."""
    numbers: list[int] = array.astype(np.int64).tolist()
    return numbers
