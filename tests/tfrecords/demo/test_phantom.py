"""The drawn radiographs: anatomy where it belongs, opacities in the lungs."""

from functools import cache

import numpy as np
import pytest

from tfrecords.demo import phantom


@cache
def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one patient in one pose, healthy (with folds) and sick (with opacities)."""
    anatomy = phantom.Anatomy.draw(np.random.default_rng(seed))
    healthy, sick = (
        phantom.draw(np.random.default_rng(seed), anatomy, opacities=opacities).astype(int)
        for opacities in (False, True)
    )
    return healthy, sick


@pytest.mark.parametrize("seed", range(10))
def test_a_radiograph_has_dark_lungs_beside_a_bright_middle(seed):
    healthy, _ = pair(seed)
    third = phantom.SIDE // 3
    rows = slice(third, 2 * third)
    spine = healthy[rows, 70:74].mean()
    assert healthy[rows, 30:48].mean() < 0.75 * spine
    assert healthy[rows, 100:115].mean() < 0.85 * spine
    assert healthy[-10:, 40:104].mean() > healthy[rows, 30:48].mean()  # the abdomen


def test_the_heart_lies_to_the_right_of_the_image():
    row = slice(int(0.62 * phantom.SIDE), int(0.68 * phantom.SIDE))
    mean = np.mean([pair(seed)[0] for seed in range(10)], axis=0)
    middle = phantom.SIDE // 2
    assert mean[row, middle : middle + 25].mean() > mean[row, middle - 25 : middle].mean() + 5


@pytest.mark.parametrize("seed", range(10))
def test_opacities_differ_from_folds_in_the_lungs_alone(seed):
    healthy, sick = pair(seed)
    changed = np.abs(sick - healthy) >= 8
    assert 0.002 < changed.mean() < 0.35
    assert not changed[:10].any()  # above the lungs
    assert not changed[-10:].any()  # the abdomen
    assert not changed[:, :6].any()  # the arms
    assert not changed[:, -6:].any()


@pytest.mark.parametrize("seed", range(10))
def test_opacities_lie_sideways_and_folds_downwards(seed):
    """The lost air changes more slowly along its own direction."""
    for sideways, along in ((True, 1), (False, 0)):
        random = np.random.default_rng(seed)
        anatomy, pose = phantom.Anatomy.draw(random), phantom.Pose.draw(random)
        lost = phantom._lost(random, anatomy, pose, sideways=sideways)
        steps = [np.square(np.diff(lost, axis=axis)).sum() for axis in (0, 1)]
        assert steps[along] < 0.7 * steps[1 - along]


@pytest.mark.slow
def test_classes_are_alike_in_whole_image_numbers():
    """On the average both are as bright, as varied and as sharp: a model has to look at shapes."""
    pairs = np.array([pair(seed) for seed in range(40)])
    means, deviations = pairs.mean(axis=(2, 3)), pairs.std(axis=(2, 3))
    sharpness = np.abs(np.diff(pairs, axis=2)[..., :-1] + np.diff(pairs, axis=3)[:, :, :-1]).mean(axis=(2, 3))
    for numbers in (means, deviations, sharpness):
        difference = numbers[:, 1] - numbers[:, 0]
        assert abs(difference.mean()) < 0.15 * numbers[:, 0].std()


@pytest.mark.slow
def test_opacities_vary_in_amount_and_place():
    changes = [np.subtract(*pair(seed)[::-1]).clip(0) for seed in range(24)]
    sums = np.array([change.sum() for change in changes])
    assert sums.max() > 3 * sums.min()
    columns = np.array([change.sum(axis=0) @ np.arange(phantom.SIDE) for change in changes]) / sums
    assert columns.min() < phantom.SIDE * 0.4
    assert columns.max() > phantom.SIDE * 0.6


def test_a_pose_is_undone_by_its_inverse():
    pose = phantom.Pose.draw(np.random.default_rng(3))
    x, y = np.random.default_rng(4).uniform(-1, 1, size=(2, 50))
    np.testing.assert_allclose(pose.to_image(*pose.to_body(x, y)), (x, y), atol=1e-12)
