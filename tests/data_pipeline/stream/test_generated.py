import gc
import subprocess
import threading
import weakref

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.stream import generated as module
from data_pipeline.stream.generated import generated

SPEC = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 3], tf.uint8), tf.TensorSpec([None], tf.string))


def numbered(count=10):
    """A dataset of `count` elements, and a list that notes each that is made."""
    made = []

    def elements():
        for number in range(count):
            made.append(number)
            yield (
                np.full(number, number),
                np.full((number, 3), number, np.uint8),
                np.array([b"%d" % number] * number, object),
            )

    return generated(elements, SPEC, count), made


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "generated"]


def test_elements_come_in_order_anew_in_each_pass():
    dataset, made = numbered()
    assert dataset.element_spec == SPEC
    for _ in range(3):
        for number, (numbers, images, texts) in enumerate(dataset.as_numpy_iterator()):
            assert numbers.tolist() == [number] * number
            assert images.tolist() == [[number] * 3] * number
            assert texts.tolist() == [b"%d" % number] * number
        assert number == 9
    assert made == [*range(10)] * 3


def test_two_passes_at_once_do_not_mix():
    dataset, _ = numbered()
    one, other = dataset.as_numpy_iterator(), dataset.as_numpy_iterator()
    found = [[len(next(each)[0]) for each in (one, other, one)] for _ in range(5)]
    assert found == [[0, 0, 1], [2, 1, 3], [4, 2, 5], [6, 3, 7], [8, 4, 9]]


def test_one_element_is_made_ahead_and_no_more():
    dataset, made = numbered()
    config = tf.data.Options()
    config.experimental_optimization.apply_default_optimizations = False  # they would prefetch one more
    elements = dataset.with_options(config).as_numpy_iterator()
    for number in range(4):
        next(elements)
        while len(made) < number + 2:  # it is being made
            pass
        assert made == list(range(number + 2))


def test_an_error_ends_the_pass_with_its_text_and_the_next_pass_begins_anew():
    fail = [True]

    def elements():
        yield (np.zeros(1, np.int64),)
        if fail:
            raise ValueError(f"{fail.pop()}: shard 'a' is damaged")
        yield (np.ones(1, np.int64),)

    dataset = generated(elements, SPEC[:1], 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"True: shard .{1,2}a.{1,2} is damaged"):
        list(dataset.as_numpy_iterator())
    assert [element[0].tolist() for element in dataset.as_numpy_iterator()] == [[0], [1]]


def test_too_few_elements_are_told():
    dataset = generated(lambda: iter([(np.zeros(1, np.int64),)]), SPEC[:1], 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="all elements have been given"):
        list(dataset.as_numpy_iterator())


def test_an_aligned_array_of_bytes_is_not_copied_and_is_given_back():
    size, given = 1 << 20, []

    def elements():
        for number in range(3):
            buffer = np.empty(size + 64, np.uint8)
            start = -buffer.ctypes.data % 64
            array = buffer[start : start + size]
            array[:] = number
            given.append((array.ctypes.data, weakref.ref(buffer)))
            yield (array,)
            del array, buffer

    dataset = generated(elements, [tf.TensorSpec([size], tf.uint8)], 3)
    places = []
    for number, (element,) in enumerate(dataset):
        assert element[0].numpy() == number
        places.append(np.asarray(memoryview(element)).ctypes.data)  # numpy() would copy
    del element
    assert places == [place for place, _ in given]
    gc.collect()
    tf.constant(np.zeros(3))  # what TensorFlow holds no more is given back at a next call
    assert [buffer() is None for _, buffer in given[:2]] == [True, True]


@pytest.mark.slow
def test_the_thread_ends_with_the_dataset_and_not_before():
    before = alive()
    dataset, _ = numbered()
    (maker,) = [thread for thread in alive() if thread not in before]
    elements = iter(dataset.map(lambda *element: element[0]).prefetch(2))
    next(elements)
    del dataset
    gc.collect()
    assert len(list(elements)) == 9  # the iterator keeps what it needs
    assert maker.is_alive()
    del elements
    gc.collect()
    maker.join()


def test_a_dataset_may_be_collected_while_a_function_is_traced():
    """Where an operation of TensorFlow would become a part of the function."""
    before = alive()
    held = [numbered()[0]]
    (maker,) = [thread for thread in alive() if thread not in before]

    @tf.function
    def traced():
        held.clear()
        gc.collect()
        return tf.constant(1)

    operations = traced.get_concrete_function().graph.get_operations()
    assert not [operation.type for operation in operations if "Queue" in operation.type]
    maker.join(60)
    assert not maker.is_alive()


DROPPED = """
import random, time
import numpy as np
import tensorflow as tf
from data_pipeline.stream.generated import generated

def elements():
    while True:
        time.sleep(0.001)
        yield (np.zeros(1 << 16, np.uint8), np.array([b"text"] * 100, object))

spec = tf.TensorSpec([1 << 16], tf.uint8), tf.TensorSpec([100], tf.string)
chance = random.Random(0)
for _ in range(300):
    dataset = generated(elements, spec, 1 << 40).prefetch(2)
    taken = iter(dataset)
    for _ in range(chance.choice([0, 1, 2, 5])):
        next(taken)
    time.sleep(chance.choice([0, 0, 0.001, 0.002]))
    del taken  # with the interpreter's lock held, while an element is being made
print("dropped", flush=True)
last = iter(dataset)
next(last)  # and so it is when Python ends
"""


@pytest.mark.stops
@pytest.mark.slow
def test_an_iterator_can_be_dropped_and_python_can_end_while_an_element_is_made(start):
    process = start("-c", DROPPED, stderr=subprocess.PIPE)
    printed, errors = process.communicate()
    assert (process.returncode, printed) == (0, "dropped\n"), errors[-3000:]


@pytest.mark.slow
def test_of_many_passes_that_were_left_only_the_last_few_keep_what_was_made_ahead():
    before = alive()
    dataset, made = numbered()
    (maker,) = [thread for thread in alive() if thread not in before]
    for _ in range(20):
        next(iter(dataset))
    while len(made) < 40:  # two of each: one was taken, one is made ahead
        pass
    assert len(maker._passes) <= module._LIVE + 1


def test_a_pass_that_has_lost_its_place_to_later_ones_is_told_and_does_not_just_end():
    dataset, _ = numbered()
    passes = [iter(dataset) for _ in range(module._LIVE + 3)]
    for each in passes:
        next(each)
    with pytest.raises(tf.errors.OpError):
        list(passes[0])
    assert len(list(passes[-1])) == 9
