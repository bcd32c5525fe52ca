"""Predicting the label from numbers alone: found where planted, else chance; never within a group."""

import numpy as np
import pytest

from tfrecords.audit.numbers import Number
from tfrecords.audit.shortcut import find_shortcut
from tfrecords.errors import InputError

NUMBERS = [Number("a", "a", "first"), Number("b", "b", "first"), Number("c", "c", "second")]


def drawn(records=300, classes=2, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(records) % classes
    return generator, labels.astype(np.int64), generator.normal(size=(records, 3))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_a_planted_shortcut_is_found_and_named(classes):
    _, labels, values = drawn(classes=classes)
    values[:, 2] += 4 * (labels == 1)
    found = find_shortcut(values, labels, [f"g{n}" for n in range(len(labels))], NUMBERS)
    assert found.families[0][0] == "second"
    assert found.single.index(max(found.single)) == 2
    if classes == 2:
        assert found.auroc > 0.97
        assert (found.predicted == labels).mean() > 0.9
    assert len(found.aurocs_of_folds) == 5
    assert np.allclose(found.probabilities.sum(1), 1)


@pytest.mark.slow
def test_without_a_shortcut_there_is_chance():
    _, labels, values = drawn(600)
    found = find_shortcut(values, labels, [f"g{n}" for n in range(len(labels))], NUMBERS)
    assert 0.4 < found.auroc < 0.6


@pytest.mark.slow
def test_records_of_a_group_predict_nothing_of_each_other():
    """Each group has numbers of its own, and one label: whoever has seen the group knows the label."""
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 5)
    labels = (generator.permutation(60) % 2)[groups].astype(np.int64)
    values = generator.normal(size=(60, 3))[groups] + 0.01 * generator.normal(size=(300, 3))
    found = find_shortcut(values, labels, [str(g) for g in groups], NUMBERS)
    assert found.auroc < 0.7


@pytest.mark.slow
def test_the_same_seed_gives_the_same_answer():
    _, labels, values = drawn()
    groups = [f"g{n // 2}" for n in range(len(labels))]
    first, second = (find_shortcut(values, labels, groups, NUMBERS, seed=4) for _ in range(2))
    assert np.array_equal(first.probabilities, second.probabilities)
    assert first.single == second.single


def test_too_few_groups_are_refused_by_number():
    _, labels, values = drawn(40)
    with pytest.raises(InputError, match=r"two groups.*smallest.*1"):
        find_shortcut(values, labels, ["all"] * 40, NUMBERS)
