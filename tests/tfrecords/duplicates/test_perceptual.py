import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tfrecords.demo.phantom import Anatomy, draw
from tfrecords.duplicates.perceptual import NEAR_BITS, near_pairs, perceptual_hash
from tfrecords.images.decode import decode

GOLDEN = 0x70DBCC5638A7D072


def phantom(number):
    """A drawn radiograph, uint8 [H, W]."""
    random = np.random.default_rng(number)
    return draw(random, Anatomy.draw(random), opacities=bool(number % 2))


def by_definition(pixels):
    """The hash by the formula of the module's docstring, in floating point."""
    size = pixels.shape[0] // 32
    means = pixels[..., 0].astype(float).reshape(32, size, 32, size).mean((1, 3))
    k, n = np.arange(1, 9)[:, None], np.arange(32)[None]
    cosines = np.cos(np.pi * k * (2 * n + 1) / 64)
    waves = (cosines @ means @ cosines.T).ravel()
    return int("".join(str(int(bit)) for bit in waves > np.median(waves)), 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_is_that_of_its_definition(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (128, 128, 1), np.uint8)
    found, expected = perceptual_hash(pixels), by_definition(pixels)
    assert (found ^ expected).bit_count() <= 2  # integers: a wave at the median may change its side
    assert found.bit_count() == 32


def test_the_hash_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (180, 240, 3), np.uint8)
    assert perceptual_hash(pixels) == GOLDEN  # kept with unfinished conversions, so it must not change
    assert perceptual_hash(np.ascontiguousarray(pixels[:, ::-1])) != GOLDEN


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 500, 3), (31, 33, 1), (8, 8, 3), (2000, 40, 1)])
def test_any_shape_has_a_hash_and_a_flat_image_has_none_of_its_bits(shape):
    random = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    assert 0 <= perceptual_hash(random) < 2**64
    assert perceptual_hash(np.full(shape, 77, np.uint8)) == 0


def saved(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


CHANGES = {
    "recompressed": lambda image: saved(image, 60),
    "brighter": lambda image: saved(np.minimum(image, 245) + 10, 95),
    "smaller": lambda image: saved(np.asarray(Image.fromarray(image).resize((150, 160))), 95),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_an_image_that_looks_the_same_is_near_and_others_are_far(change):
    def look(data):
        return perceptual_hash(decode(data, height=128, width=128, channels=1))

    images = [phantom(number) for number in range(12)]
    before = [look(saved(image, 95)) for image in images]
    after = [look(CHANGES[change](image)) for image in images]
    near = [(one ^ other).bit_count() <= NEAR_BITS for one, other in zip(before, after, strict=True)]
    assert sum(near) >= 11
    assert min((one ^ other).bit_count() for one, other in combinations(before, 2)) > NEAR_BITS


def brute_force(hashes):
    return [
        [i, j] for i, j in combinations(range(len(hashes)), 2)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= NEAR_BITS
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_all_near_pairs_are_found_and_no_other(seed):
    random = np.random.default_rng(seed)
    hashes = set(random.integers(0, 2**64, 150, np.uint64).tolist())
    for origin in list(hashes)[:60]:  # relatives of 1 to 6 bits off, all over the 64
        for count in range(1, 7):
            bits = random.choice(64, count, replace=False)
            hashes.add(origin ^ sum(1 << int(bit) for bit in bits))
    values = np.array(sorted(hashes), np.uint64)
    found = near_pairs(values).tolist()
    assert found == brute_force(values)
    assert len(found) > 180


@pytest.mark.parametrize("hashes", [[], [5], [5, 2**63 + 5], [0, 15], [0, 7]])
def test_few_hashes(hashes):
    values = np.array(hashes, np.uint64)
    assert near_pairs(values).tolist() == brute_force(values)


@pytest.mark.slow
def test_hashes_that_crowd_in_one_corner_are_compared_too():
    values = np.arange(1 << 9, dtype=np.uint64)
    assert near_pairs(values).tolist() == brute_force(values)
