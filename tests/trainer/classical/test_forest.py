from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from trainer.classical.forest import Forest


@pytest.fixture(scope="module")
def grown():
    random = np.random.default_rng(0)
    features = random.random((200, 12), np.float32)
    labels = np.digitize(features[:, 0] + 0.3 * features[:, 1], (0.4, 0.8))
    return RandomForestClassifier(7, random_state=0).fit(features, labels), features


def test_it_answers_as_scikit_learn(grown):
    fitted, features = grown
    others = np.random.default_rng(1).random((500, 12), np.float32)
    for asked in (features, others, others[:1]):
        assert Forest.of(fitted).predict_proba(asked) == pytest.approx(fitted.predict_proba(asked), abs=1e-12)


def test_a_value_at_the_threshold_goes_left():
    stump = Forest(
        np.array([0]),
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.array([0, -2, -2]),
        np.array([0.5, -2, -2]),
        np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]),
    )
    asked = np.array([[0.5], [np.nextafter(np.float32(0.5), np.float32(1))]], np.float32)
    assert stump.predict_proba(asked).tolist() == [[1, 0], [0, 1]]


def test_arrays_there_and_back(grown):
    forest = Forest.of(grown[0])
    again = Forest.from_arrays(forest.arrays())
    assert np.array_equal(again.predict_proba(grown[1]), forest.predict_proba(grown[1]))


@pytest.mark.parametrize("link", [0, 10**6, -5])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_link_out_of_the_tree_or_back_is_refused(grown, link, side):
    forest = Forest.of(grown[0])
    links = getattr(forest, side).copy()
    links[0] = link
    with pytest.raises(ValueError, match="child"):
        replace(forest, **{side: links})
