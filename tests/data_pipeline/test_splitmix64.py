import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import splitmix64 as in_ops
from tfrecords import splitmix64

# The first three uniforms of the key 0 in a graph.
GRAPH = [0.6038906202342335, 0.8491760493311832, 0.6496319729433617]
KEYS = np.array([0, 1, 1234567, -1, 2**63 - 1, -(2**63)])


def test_the_mix_is_that_of_numpy():
    bits = KEYS.view(np.uint64)
    np.testing.assert_array_equal(in_ops.mix(tf.constant(bits)).numpy(), splitmix64.mix(bits))


def test_uniforms_are_those_of_numpy():
    found = in_ops.uniforms(tf.constant(KEYS), 11).numpy()
    np.testing.assert_array_equal(found, splitmix64.uniforms(KEYS, 11))


@pytest.mark.parametrize("compiled", [True, False])
def test_golden_uniforms_of_a_graph(compiled):
    """Pinned: a run that is resumed must see the same images; see `uniforms` for why NumPy has others."""
    found = tf.function(in_ops.uniforms, jit_compile=compiled)(tf.constant([0, 1234567], tf.int64), 11)
    assert found.numpy()[:3, 0].tolist() == GRAPH


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
    tensors = [tf.constant(word, tf.int64) for word in words]
    for bits in (in_ops.stateless_bits, tf.function(in_ops.stateless_bits)):
        np.testing.assert_array_equal(bits(*tensors).numpy(), splitmix64.stateless_bits(*words))
