"""Metrics against scikit-learn's, on random data and on the edges."""

from collections.abc import Callable

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


@pytest.mark.parametrize(("loss", "mean"), [("brier", metrics.brier), ("log_loss", metrics.log_loss)])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_mean_of_the_rows_losses_is_the_metric(
    loss: str, mean: Callable[[np.ndarray, np.ndarray], float], classes: int
) -> None:
    rng = np.random.default_rng(3)
    outputs = rng.dirichlet(np.ones(classes), size=50)
    truth = rng.integers(-1, classes, 50)
    found = metrics.row_losses(loss, outputs, truth)
    assert found.shape == (50,)
    assert found.mean() == pytest.approx(mean(outputs, truth))
    if classes == 2:  # one column is the probability of the second class
        assert metrics.row_losses(loss, outputs[:, 1:], truth) == pytest.approx(found)


def test_losses_of_rows_by_hand() -> None:
    outputs, truth = np.array([[0.2], [0.5], [0.7]]), np.array([0, 1, -1])
    assert metrics.row_losses("brier", outputs, truth) == pytest.approx([0.04, 0.25, (0.09 + 0.49 + 1) / 2])
    assert metrics.row_losses("zero_one", outputs, truth).tolist() == [0.0, 1.0, 1.0]
    log_losses = metrics.row_losses("log_loss", outputs, truth, cap=1.0)
    assert log_losses == pytest.approx([-np.log(0.8), np.log(2), 1.0])
    three = np.array([[0.2, 0.5, 0.3]])
    assert metrics.row_losses("brier", three, np.array([1])) == pytest.approx([0.04 + 0.25 + 0.09])
    assert metrics.row_losses("zero_one", three, np.array([1])).tolist() == [0.0]
    numbers = np.array([[1.0], [5.0]])
    assert metrics.row_losses("squared", numbers, np.array([2.0, 2.0])).tolist() == [1.0, 9.0]
    assert metrics.row_losses("absolute", numbers, np.array([2.0, 2.0]), cap=2.5).tolist() == [1.0, 2.5]
    with pytest.raises(ValueError, match="'auc' is no loss of a row"):
        metrics.row_losses("auc", outputs, truth)


@pytest.mark.parametrize(
    ("loss", "cap", "classes", "largest"),
    [
        ("brier", None, 2, 1.0),
        ("brier", None, 3, 2.0),
        ("brier", 0.5, 3, 0.5),
        ("zero_one", None, 3, 1.0),
        ("zero_one", 7.0, 2, 1.0),
        ("log_loss", None, 2, None),
        ("log_loss", 4.0, 2, 4.0),
        ("squared", None, 2, None),
        ("absolute", 30.0, 2, 30.0),
    ],
)
def test_the_largest_loss_of_a_row(loss: str, cap: float | None, classes: int, largest: float | None) -> None:
    assert metrics.largest_loss(loss, cap=cap, classes=classes) == largest
