import numpy as np
import pytest

from tfrecords.splitmix64 import INCREMENT, mix, stateless_bits, uniforms

# The reference generator's first five outputs for the state 1234567
# (https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64).
PUBLISHED = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def test_the_published_numbers():
    states = [(1234567 + number * INCREMENT) % 2**64 for number in range(1, 6)]
    assert mix(np.array(states, np.uint64)).tolist() == PUBLISHED
    assert uniforms(1234567, 5).tolist() == [(number >> 11) * 2.0**-53 for number in PUBLISHED]
    assert uniforms(2**64 - 1, 1000).max() < 1


def test_uniforms_of_many_keys_are_those_of_each():
    keys = np.array([0, 1234567, -1, 2**63 - 1, -(2**63)])
    expected = [uniforms(int(key) % 2**64, 7) for key in keys]
    np.testing.assert_array_equal(uniforms(keys, 7), np.transpose(expected))
    np.testing.assert_array_equal(uniforms(keys, 9)[:7], uniforms(keys, 7))


@pytest.mark.filterwarnings("error")
def test_bits_of_words_are_those_of_each():
    numbers = np.arange(5)
    found = stateless_bits(3, numbers, -1)
    assert (found.dtype, found.shape) == (np.uint64, (5,))
    assert found.tolist() == [int(stateless_bits(3, number, -1)) for number in range(5)]


def test_words_in_another_order_are_other_bits():
    words = ((1, 2), (2, 1), (1,), (1, 2, 0), (0, 1, 2), (-1,))
    assert len({int(stateless_bits(*each)) for each in words}) == len(words)
