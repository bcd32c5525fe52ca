"""The quick logistic regression gives what scikit-learn's gives."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tfrecords.audit.quick import QuickShortcut, distances


def drawn(classes, records=300):
    random = np.random.default_rng(classes)
    labels = np.minimum(
        random.integers(0, classes + 1, records), classes - 1
    )  # the last is twice as frequent
    values = random.normal(size=(records, 5)) * (1, 10, 100, 1, 0)
    values[:, 0] += labels
    return values, labels


def sklearn_says(values, labels, truth):
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=5000)
    )
    return model.fit(values, truth).predict_proba(values)[:, 1]


def test_two_classes_equal_scikit_learn():
    values, labels = drawn(2)
    found = QuickShortcut.fit(values, labels, 2).probabilities(values)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[:, 1], sklearn_says(values, labels, labels == 1), atol=1e-5)


def test_more_classes_are_each_against_the_rest():
    values, labels = drawn(3)
    found = QuickShortcut.fit(values, labels, 3).probabilities(values)
    each = np.column_stack([sklearn_says(values, labels, labels == k) for k in range(3)])
    np.testing.assert_allclose(found, each / each.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_classes_that_a_number_separates_wholly_are_no_trouble(scale):
    labels = np.arange(200) % 2
    values = np.column_stack([labels * scale, np.zeros(200)])
    found = QuickShortcut.fit(values, labels, 2).probabilities(values)
    assert np.isfinite(found).all()
    assert (found.argmax(axis=1) == labels).all()


def test_distances_are_in_deviations_within_a_class():
    random = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    values = random.normal(size=(4000, 2)) * (1, 5) + np.column_stack([3 * labels, 5 * labels])
    np.testing.assert_allclose(distances(values, labels), (3, 1), atol=0.1)
