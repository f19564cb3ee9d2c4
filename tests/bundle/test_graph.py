from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from passerelle.bundle.compile import onnx_trees
from passerelle.bundle.form import Form, Gather, Slot, Trees, write_form
from passerelle.bundle.graph import refuse_other_operators
from passerelle.bundle.program import Program
from passerelle.bundle.trees import Tree, grow
from passerelle.errors import BundleError

STUMP = Tree(
    feature=np.array([0, 0, 0]),
    threshold=np.array([0.5, 0, 0]),
    left=np.array([1, -1, -1]),
    right=np.array([2, -1, -1]),
    missing_left=np.array([True, False, False]),
    is_leaf=np.array([False, True, True]),
    value=np.array([0.0, -1.0, 1.0]),
)


def model() -> Any:
    return onnx.load_from_string(onnx_trees(grow([(0, STUMP)], 1)[0], 1))


def second_operator(made: Any) -> None:
    made.graph.node.append(helper.make_node("Identity", ["y"], ["z"]))


def another_operator(made: Any) -> None:
    made.graph.node[0].op_type = "TreeEnsembleRegressor"


def another_domain(made: Any) -> None:
    made.graph.node[0].domain = "evil"


def function(made: Any) -> None:
    opsets = [helper.make_opsetid("", 21)]
    made.functions.append(
        helper.make_function("evil", "f", ["x"], ["y"], [helper.make_node("Exp", ["x"], ["y"])], opsets)
    )


def initializer(made: Any) -> None:
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(1), "w"))


def external(made: Any) -> None:
    tensor = next(one.t for one in made.graph.node[0].attribute if one.name == "leaf_weights")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def inner_graph(made: Any) -> None:
    made.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))


def two_graphs_in_one(made: Any) -> None:
    made.graph.metadata_props.add().key = "x"


CHANGES = [
    second_operator,
    another_operator,
    another_domain,
    function,
    initializer,
    external,
    inner_graph,
    two_graphs_in_one,
]


def test_what_we_write_passes() -> None:
    refuse_other_operators(onnx_trees(grow([(0, STUMP)] * 300, 1)[0], 1))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_anything_else_is_refused_before_the_runtime_sees_it(change: Any, tmp_path: Path) -> None:
    made = model()
    change(made)
    with pytest.raises(ValueError, match="written"):
        refuse_other_operators(made.SerializeToString())
    step = Trees(source=0, outputs=1, base=np.zeros(1), divide=np.ones(1))
    form = Form(outputs=1, steps=(Gather(slots=(Slot(field="a"),)), step))
    write_form(form, tmp_path / "good", {"trees-1.onnx": model().SerializeToString()})
    assert Program(tmp_path / "good")({"a": np.array([0.0, 1.0, np.nan])}).tolist() == [[-1.0], [1.0], [-1.0]]
    write_form(form, tmp_path / "bad", {"trees-1.onnx": made.SerializeToString()})
    with pytest.raises(BundleError, match=r"trees-1\.onnx cannot be loaded \(.*written"):
        Program(tmp_path / "bad")


@given(cut=st.integers(0, 10_000), flip=st.integers(0, 10_000), by=st.integers(1, 255))
def test_damage_is_a_value_error_or_nothing(cut: int, flip: int, by: int) -> None:
    data = bytearray(onnx_trees(grow([(0, STUMP)], 1)[0], 1))
    data[flip % len(data)] ^= by
    for damaged in (bytes(data), bytes(data[: cut % len(data)])):
        try:
            refuse_other_operators(damaged)
        except ValueError:
            continue
