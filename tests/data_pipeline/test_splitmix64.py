import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import splitmix64 as in_graph
from tfrecords import splitmix64

KEYS = np.array([0, 1, 1234567, -1, 2**63 - 1, -(2**63)])


def test_the_mix_is_that_of_numpy():
    bits = KEYS.view(np.uint64)
    np.testing.assert_array_equal(in_graph.mix(tf.constant(bits)).numpy(), splitmix64.mix(bits))


@pytest.mark.parametrize("compiled", [True, False])
def test_uniforms_are_those_of_numpy(compiled):
    uniforms = tf.function(in_graph.uniforms, jit_compile=compiled)
    np.testing.assert_array_equal(uniforms(tf.constant(KEYS), 11).numpy(), splitmix64.uniforms(KEYS, 11))


@pytest.mark.parametrize(
    "words",
    [
        (7,),
        (-1, 2**62),
        (1, KEYS, 2),
        (KEYS[:, None], np.arange(4), 2**32 - 1),
    ],
)
def test_bits_of_words_are_those_of_numpy(words):
    found = in_graph.stateless_bits(*(tf.constant(word, tf.int64) for word in words)).numpy()
    np.testing.assert_array_equal(found, splitmix64.stateless_bits(*words))
