"""Metrics against scikit-learn's, on random data and on the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from passerelle import metrics


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=2, max_size=60))
def test_binary_metrics_equal_scikit_learns(pairs: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in pairs])
    truth = np.array([int(label) for _, label in pairs])
    ours = metrics.evaluate("binary", scores[:, None], truth)
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(truth, scores, labels=[0, 1]))
    assert ours["brier"] == pytest.approx(theirs.brier_score_loss(truth, scores))
    if 0 < truth.sum() < len(truth):
        assert ours["auc"] == pytest.approx(theirs.roc_auc_score(truth, scores))
    else:
        assert np.isnan(ours["auc"])


def test_multiclass_metrics_equal_scikit_learns() -> None:
    random = np.random.default_rng(0)
    outputs = random.dirichlet([1, 1, 1], size=500)
    truth = random.integers(0, 3, size=500)
    ours = metrics.evaluate("multiclass", outputs, truth)
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(truth, outputs))
    assert ours["accuracy"] == theirs.accuracy_score(truth, outputs.argmax(axis=1))
    assert ours["brier"] == pytest.approx(((outputs - np.eye(3)[truth]) ** 2).sum(axis=1).mean())


def test_a_sure_error_is_large_and_finite() -> None:
    assert metrics.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-15))


def test_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no row"):
        metrics.evaluate("binary", np.empty((0, 1)), np.empty(0))


def test_true_is_not_the_number_one() -> None:
    assert metrics.positions([1, True, "1"], (True,)).tolist() == [-1, 0, -1]


def test_a_whole_float_is_the_integer_that_it_equals() -> None:
    assert metrics.positions([1.0, 0.0, np.float64(1), 0.5], (0, 1)).tolist() == [1, 0, 1, -1]


def test_an_unknown_class_counts_as_not_positive_in_every_binary_metric() -> None:
    scores, truth = np.array([0.9, 0.6, 0.1, 0.2]), np.array([1, -1, 0, 0])
    known = np.array([1, 0, 0, 0])
    assert metrics.auc(scores, truth) == metrics.auc(scores, known) == 1.0
    assert metrics.cost(scores, truth, action=1, missed=4) == metrics.cost(scores, known, action=1, missed=4)
    assert metrics.calibration_error(scores, truth) == metrics.calibration_error(scores, known)


def test_a_class_the_model_does_not_know_counts_as_wrong() -> None:
    outputs, truth = np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([-1, 1])
    assert metrics.accuracy(outputs, truth) == 0.5
    assert metrics.log_loss(outputs, truth) == pytest.approx(-np.log(1e-15) / 2)
    assert metrics.brier(outputs[:, [0, 1]], truth) == pytest.approx((0.5 + 1) / 4)
