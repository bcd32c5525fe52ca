"""The drawn radiographs: anatomy where it belongs, opacities in the lungs."""

from functools import cache

import numpy as np
import pytest

from tfrecords.demo import phantom


@cache
def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one patient in one pose, healthy and sick."""
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
def test_opacities_only_brighten_and_only_the_lungs(seed):
    healthy, sick = pair(seed)
    change = sick - healthy
    assert change.min() >= -3  # where an opacity is hardly there, its grain may darken a pixel
    changed = change >= 8
    assert 0.002 < changed.mean() < 0.30
    assert healthy[changed].mean() < 0.95 * healthy.mean()  # what they cover was dark: air
    assert not changed[:15].any()  # above the lungs
    assert not changed[-10:].any()  # the abdomen
    assert not changed[:, :8].any()  # the arms
    assert not changed[:, -8:].any()


@pytest.mark.parametrize("seed", range(10))
def test_opacities_are_blobs(seed):
    healthy, sick = pair(seed)
    changed = sick - healthy >= 8
    inner = changed[1:-1, 1:-1]
    around = sum(
        changed[1 + dy : phantom.SIDE - 1 + dy, 1 + dx : phantom.SIDE - 1 + dx].astype(int)
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
    )
    assert around[inner].mean() > 3.0  # of 4: scattered pixels would have hardly one


@pytest.mark.slow
def test_opacities_vary_in_amount_and_place():
    changes = [np.subtract(*pair(seed)[::-1]).clip(0) for seed in range(24)]
    sums = np.array([change.sum() for change in changes])
    assert sums.max() > 4 * sums.min()
    columns = np.array([change.sum(axis=0) @ np.arange(phantom.SIDE) for change in changes]) / sums
    assert columns.min() < phantom.SIDE * 0.4
    assert columns.max() > phantom.SIDE * 0.6


def test_a_pose_is_undone_by_its_inverse():
    pose = phantom.Pose.draw(np.random.default_rng(3))
    x, y = np.random.default_rng(4).uniform(-1, 1, size=(2, 50))
    np.testing.assert_allclose(pose.to_image(*pose.to_body(x, y)), (x, y), atol=1e-12)
