"""Each change of a stress test: nothing at its unchanged level, more at each further one, alike for all."""

import numpy as np
import pytest

from trainer.evaluation.stress.changes import STRESSES

BY_NAME = {stress.name: stress for stress in STRESSES}


def image(channels=1, seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(40, 200, (9, 7, channels)).repeat(8, axis=0).repeat(8, axis=1)
    return (coarse + generator.integers(-20, 20, coarse.shape)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stress", STRESSES, ids=lambda stress: stress.name)
def test_changes_grow_from_the_unchanged_level(stress, channels):
    before = image(channels)
    assert stress.unchanged in stress.levels
    assert list(stress.levels) == sorted(stress.levels)
    at = stress.levels.index(stress.unchanged)
    distance = []
    for level in stress.levels:
        after = stress(before, level, record_id="a")
        assert after.dtype == np.uint8
        assert after.shape == before.shape
        distance.append(np.abs(after.astype(int) - before).mean())
    assert distance[at] == 0
    assert distance[: at + 1] == sorted(distance[: at + 1], reverse=True)
    assert distance[at:] == sorted(distance[at:])
    assert len(set(distance)) == len(distance)


@pytest.mark.parametrize(
    ("name", "level", "before", "after"),
    [
        ("exposure", 1.0, (0, 50, 200), (0, 100, 255)),
        ("exposure", -1.0, (0, 50, 200), (0, 25, 100)),
        ("gamma", 2.0, (0, 51, 255), (0, 10, 255)),
        ("contrast", 0.4, (0, 127, 255), (76, 127, 178)),
    ],
)
def test_tones(name, level, before, after):
    pixels = np.array(before, np.uint8).reshape(1, -1, 1)
    assert BY_NAME[name](pixels, level, record_id="a").ravel().tolist() == list(after)


def test_noise_has_the_deviation_that_its_level_says():
    grey = np.full((100, 100, 1), 128, np.uint8)
    assert BY_NAME["noise"](grey, 8.0, record_id="a").std() == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("name", ["noise", "rotation"])
def test_draws_follow_from_the_record_and_the_seed(name):
    stress, before = BY_NAME[name], image()
    level = stress.levels[-1]
    drawn = [
        stress(before, level, record_id=f"r{n}", seed=seed).tobytes() for seed in (0, 1) for n in range(8)
    ]
    again = [
        stress(before, level, record_id=f"r{n}", seed=seed).tobytes() for seed in (0, 1) for n in range(8)
    ]
    assert drawn == again
    assert len(set(drawn)) == (16 if name == "noise" else 2)


def test_the_given_image_stays_as_it_was():
    before = image()
    kept = before.copy()
    for stress in STRESSES:
        for level in stress.levels:
            stress(before, level, record_id="a")
    assert np.array_equal(before, kept)
