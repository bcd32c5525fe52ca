from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.stream.layout import before_image, located
from tfrecords.errors import InputError
from tfrecords.example import Record, decode, encode


def place(data, size):
    """Returns where in a serialized record its image starts."""
    return data.index(before_image(size)) + len(before_image(size))


def layout_of(serialized, size, at=None):
    """Returns the bytes of records without their images, and what is found in them."""
    before = [place(data, size) if at is None else at for data in serialized]
    rests = [data[:first] + data[first + size :] for data, first in zip(serialized, before, strict=True)]
    sizes = np.array([len(rest) for rest in rests])
    data = np.frombuffer(b"".join(rests), np.uint8)
    start = np.cumsum([0, *sizes[:-1]])
    return data, located(data, start, np.array(before), sizes - before, size)


SIZES = [1, 100, 127, 128, 20_000]


def records(size):
    random = np.random.default_rng(0)
    return [
        Record(
            image=random.integers(0, 256, size, np.uint8).tobytes(),
            label=label,
            id=b"x" * named,
            source=source,
            copy=copy,
            group=b"g" * 16,
        )
        for label, source, copy, named in (
            (0, 0, 0, 1), (127, 128, 1, 127), (128, 1 << 21, 300, 128), (3, 2**63 - 1, 2, 200)
        )
    ]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_fields_are_found_in_many_records_at_once(size):
    expected = records(size)
    serialized = [encode(record) for record in expected]
    data, layout = layout_of(serialized, size)
    assert layout.usual.all()
    for row, record in enumerate(expected):
        for name, numbers in layout.numbers.items():
            assert numbers[row] == getattr(record, name)
        for name, (first, end) in layout.strings.items():
            assert data[first[row] : end[row]].tobytes() == getattr(record, name)
    assert {*layout.numbers, *layout.strings} == {"copy", "group", "id", "label", "source"}


@pytest.mark.parametrize("shift", [-1, 1])
def test_an_image_cut_out_beside_its_place_is_told_apart(shift):
    """Equal bytes, so that what is left reads the same: only the place is wrong."""
    data = encode(replace(records(100)[0], image=b"\x0a" * 100))
    at = place(data, 100)
    assert layout_of([data], 100, at)[1].usual.all()
    assert not layout_of([data], 100, at + shift)[1].usual.any()


@pytest.mark.parametrize("size", [1, 100, 20_000])
def test_no_changed_byte_outside_values_goes_unseen(size):
    """Each byte before and behind the image changed in turn: the record is told apart, or still read so."""
    data = encode(records(size)[0])
    at = place(data, size)
    places = [one for one in range(len(data)) if not at <= one < at + size]
    changed = []
    for one in places:
        other = bytearray(data)
        other[one] ^= 0x11
        changed.append(bytes(other))
    _, layout = layout_of([data, *changed], size, at)
    assert layout.usual[0]
    for one, other, row in zip(places, changed, range(1, len(data)), strict=False):
        try:
            expected = decode(other)
        except InputError:
            assert not layout.usual[row], one
            continue
        if layout.usual[row]:
            assert other[at : at + size] == expected.image
            for name, numbers in layout.numbers.items():
                assert numbers[row] == getattr(expected, name)


def test_another_order_of_fields_and_what_is_cut_are_told_apart():
    usual = encode(records(4)[0])
    other = tf.train.Example()
    other.features.feature["label"].int64_list.value.append(1)
    other.features.feature["image"].bytes_list.value.append(b"1234")
    serialized = [usual, other.SerializeToString(), usual[:-1], usual + b"\x00", b"1234", b"\x0a\x001234"]
    _, layout = layout_of(serialized, 4, 0)
    assert not layout.usual.any()
    _, layout = layout_of(serialized[:4], 4)
    assert layout.usual.tolist() == [True, False, False, False]
