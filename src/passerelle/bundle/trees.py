"""Trees: the nodes of scikit-learn's, HistGradientBoosting's and LightGBM's trees, in the one layout of Forest.

Pure: it reads arrays and text, and imports no library of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from passerelle.bundle.form import Array, Forest, Unsupported


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """One tree: arrays over its nodes, the root first. ``value`` and ``is_leaf`` are over all nodes."""

    feature: Array
    threshold: Array
    left: Array
    right: Array
    missing_left: Array
    is_leaf: Array
    #: What a leaf adds; one number a node.
    value: Array
    #: Node → the members that go left, for nodes that split by membership.
    members: dict[int, Array] = {}


def grow(trees: Sequence[tuple[int, Tree]], outputs: int) -> tuple[Forest, Array]:
    """Trees, each with the output that it adds to, as one Forest; and what the trees of one leaf add to each output."""
    base = np.zeros(outputs)
    parts: dict[str, list[Array]] = {name: [] for name in Forest.__struct_fields__}
    nodes = leaves = 0
    for target, tree in trees:
        if tree.is_leaf[0]:
            base[target] += tree.value[0]
            continue
        inner = np.flatnonzero(~tree.is_leaf)
        outer = np.flatnonzero(tree.is_leaf)
        place = np.empty(len(tree.is_leaf), dtype=np.int64)
        place[inner] = np.arange(nodes, nodes + len(inner))
        place[outer] = np.arange(leaves, leaves + len(outer))
        left, right = tree.left[inner], tree.right[inner]
        member_nodes = [node for node in inner.tolist() if node in tree.members]
        is_member = np.zeros(len(tree.is_leaf), dtype=np.bool_)
        is_member[member_nodes] = True
        added = {
            "roots": place[:1],
            "feature": tree.feature[inner],
            "threshold": np.where(is_member[inner], 0.0, tree.threshold[inner]),
            "missing_true": tree.missing_left[inner],
            "is_member": is_member[inner],
            "members": np.concatenate([np.append(tree.members[node], np.nan) for node in member_nodes])
            if member_nodes
            else np.empty(0),
            "true_child": place[left],
            "false_child": place[right],
            "true_is_leaf": tree.is_leaf[left],
            "false_is_leaf": tree.is_leaf[right],
            "leaf_weight": tree.value[outer],
            "leaf_target": np.full(len(outer), target),
        }
        for name, array in added.items():
            parts[name].append(array)
        nodes += len(inner)
        leaves += len(outer)
    kinds: dict[str, Any] = {
        "threshold": np.float64, "members": np.float64, "leaf_weight": np.float64,
        "missing_true": np.bool_, "is_member": np.bool_, "true_is_leaf": np.bool_, "false_is_leaf": np.bool_,
    }  # fmt: skip
    arrays = {
        name: (np.concatenate(part) if part else np.empty(0)).astype(kinds.get(name, np.int64))
        for name, part in parts.items()
    }
    return Forest(**arrays), base


def sklearn_tree(tree: Any, value: Array) -> Tree:
    """A fitted scikit-learn ``tree_``, with one number for each of its nodes."""
    left = np.asarray(tree.children_left)
    missing = getattr(tree, "missing_go_to_left", None)  # since 1.3
    return Tree(
        feature=np.asarray(tree.feature),
        threshold=np.asarray(tree.threshold, dtype=np.float64),
        left=left,
        right=np.asarray(tree.children_right),
        missing_left=np.zeros(len(left), dtype=np.bool_) if missing is None else np.asarray(missing, dtype=np.bool_),
        is_leaf=left == -1,
        value=np.asarray(value, dtype=np.float64),
    )


def histogram_tree(predictor: Any) -> Tree:
    """A ``TreePredictor`` of HistGradientBoosting; its categories are codes from 0, and ours are from 1."""
    nodes = predictor.nodes
    members = {}
    for node in np.flatnonzero((nodes["is_categorical"] != 0) & (nodes["is_leaf"] == 0)).tolist():
        words = np.ascontiguousarray(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]], dtype="<u4")
        members[node] = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")) + 1.0
    return Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
        is_leaf=nodes["is_leaf"].astype(np.bool_),
        value=nodes["value"].astype(np.float64),
        members=members,
    )


#: Bits of LightGBM's decision_type (include/LightGBM/tree.h).
_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT, _MISSING_ZERO, _MISSING_NAN = 1, 2, 2, 1, 2


class Boosted(msgspec.Struct, frozen=True, kw_only=True):
    """What a LightGBM model's text says."""

    trees: list[Tree]
    #: Trees per iteration: how many raw numbers a row has.
    outputs: int
    #: The objective and its parameters: ["binary", "sigmoid:1"].
    objective: list[str]
    #: Are the trees averaged (boosting rf)?
    averaged: bool
    features: int
    #: Feature → the raw categories (whole numbers) that some split names, for features that are split by membership.
    categories: dict[int, Array]


def read_lightgbm(text: str) -> Boosted:
    """Read ``Booster.model_to_string()``: its thresholds have 17 digits, so they are the very float64."""
    head, *blocks = text.partition("end of trees")[0].split("\nTree=")
    header = _fields(head)
    parsed = [_fields(block) for block in blocks]
    raw_sets: list[dict[int, Array]] = [_raw_sets(block) for block in parsed]
    categories: dict[int, Array] = {}
    for block, sets in zip(parsed, raw_sets, strict=True):
        feature = _integers(block, "split_feature")
        for node, values in sets.items():
            known = categories.get(int(feature[node]), np.empty(0))
            categories[int(feature[node])] = np.union1d(known, values)
    return Boosted(
        trees=[_lightgbm_tree(block, sets, categories) for block, sets in zip(parsed, raw_sets, strict=True)],
        outputs=int(header["num_tree_per_iteration"]),
        objective=header.get("objective", "custom").split(" "),
        averaged="average_output" in head.split("\n"),
        features=int(header["max_feature_idx"]) + 1,
        categories=categories,
    )


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.split("\n") if "=" in line)


def _integers(block: dict[str, str], name: str) -> Array:
    return np.array(block.get(name, "").split(), dtype=np.int64)


def _raw_sets(block: dict[str, str]) -> dict[int, Array]:
    """Node → the categories that go left, from the bits of cat_threshold."""
    if int(block.get("num_cat", "0")) == 0:
        return {}
    bounds, words = _integers(block, "cat_boundaries"), _integers(block, "cat_threshold").astype("<u4")
    thresholds = np.array(block["threshold"].split(), dtype=np.float64)
    sets = {}
    for node in np.flatnonzero(_integers(block, "decision_type") & _CATEGORICAL).tolist():
        at = int(thresholds[node])
        own = np.ascontiguousarray(words[bounds[at] : bounds[at + 1]])
        sets[node] = np.flatnonzero(np.unpackbits(own.view(np.uint8), bitorder="little")).astype(np.float64)
    return sets


def _lightgbm_tree(block: dict[str, str], sets: dict[int, Array], categories: dict[int, Array]) -> Tree:
    if int(block.get("is_linear", "0")):
        raise Unsupported("lightgbm with linear_tree has no code-free form.")
    values = np.array(block["leaf_value"].split(), dtype=np.float64)
    inner = int(block["num_leaves"]) - 1
    if inner == 0:
        one = np.zeros(1, dtype=np.int64)
        leaf = np.ones(1, dtype=np.bool_)
        return Tree(
            feature=one, threshold=values[:1], left=one, right=one, missing_left=leaf, is_leaf=leaf, value=values[:1]
        )
    feature, decision = _integers(block, "split_feature"), _integers(block, "decision_type")
    missing = (decision >> _MISSING_SHIFT) & 3
    if (missing[(decision & _CATEGORICAL) == 0] == _MISSING_ZERO).any():
        raise Unsupported("lightgbm with zero_as_missing has no code-free form.")
    threshold = np.array(block["threshold"].split(), dtype=np.float64)
    # NaN takes the default way where the split knows missing values; else it counts as 0 (Tree::NumericalDecision).
    # Among categories there is no NaN any more: it was made 0, of which no split is (estimators._lightgbm_codes).
    missing_left = np.where(missing == _MISSING_NAN, (decision & _DEFAULT_LEFT) != 0, threshold >= 0)
    pad = np.zeros(len(values))
    children = (_integers(block, name) for name in ("left_child", "right_child"))
    places = [np.where(child < 0, inner + ~child, child) for child in children]
    return Tree(
        feature=np.append(feature, pad).astype(np.int64),
        threshold=np.append(threshold, pad),
        left=np.append(places[0], pad).astype(np.int64),
        right=np.append(places[1], pad).astype(np.int64),
        missing_left=np.append(missing_left, pad).astype(np.bool_),
        is_leaf=np.arange(inner + len(values)) >= inner,
        value=np.append(np.zeros(inner), values),
        members={node: np.searchsorted(categories[int(feature[node])], own) + 1.0 for node, own in sets.items()},
    )
