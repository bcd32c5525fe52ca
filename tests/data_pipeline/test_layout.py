import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.layout import HEAD, TAIL, located
from tfrecords.errors import InputError
from tfrecords.example import Record, decode, encode


def layout_of(serialized):
    heads = np.zeros((len(serialized), HEAD), np.uint8)
    for row, data in zip(heads, serialized, strict=True):
        row[: len(data)] = np.frombuffer(data[:HEAD], np.uint8)

    def tails(end):
        found = np.zeros((len(serialized), TAIL), np.uint8)
        for row, data, at in zip(found, serialized, end.tolist(), strict=True):
            row[: len(data) - at] = np.frombuffer(data[at:][:TAIL], np.uint8)
        return found

    return heads, located(heads, tails, np.array([len(data) for data in serialized]))


def records():
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
        for size in (1, 100, 127, 128, 20_000)
        for label, source, copy, named in (
            (0, 0, 0, 1), (127, 128, 1, 127), (128, 1 << 21, 300, 128), (3, 2**63 - 1, 2, 200)
        )
    ]  # fmt: skip


def test_fields_are_found_in_records_of_all_sizes_at_once():
    expected = records()
    serialized = [encode(record) for record in expected]
    heads, layout = layout_of(serialized)
    assert layout.usual.all()
    for row, (record, data) in enumerate(zip(expected, serialized, strict=True)):
        assert data[layout.image[row] : layout.end[row]] == record.image
        for name, numbers in layout.numbers.items():
            assert numbers[row] == getattr(record, name)
        for name, (first, end) in layout.strings.items():
            assert heads[row, first[row] : end[row]].tobytes() == getattr(record, name)
    assert {*layout.numbers, *layout.strings} == {"copy", "group", "id", "label", "source"}


@pytest.mark.parametrize("size", [1, 100, 20_000])
def test_no_changed_byte_outside_values_goes_unseen(size):
    """Each byte before and behind the image changed in turn: the record is told apart, or still read so."""
    record = next(one for one in records() if len(one.image) == size)
    data = encode(record)
    at = data.index(record.image)
    places = [place for place in range(len(data)) if not at <= place < at + size]
    changed = []
    for place in places:
        other = bytearray(data)
        other[place] ^= 0x11
        changed.append(bytes(other))
    _, layout = layout_of([data, *changed])
    assert layout.usual[0]
    for place, other, row in zip(places, changed, range(1, len(data)), strict=False):
        try:
            expected = decode(other)
        except InputError:
            assert not layout.usual[row], place
            continue
        if layout.usual[row]:
            assert other[layout.image[row] : layout.end[row]] == expected.image
            for name, numbers in layout.numbers.items():
                assert numbers[row] == getattr(expected, name)


def test_another_order_of_fields_and_longer_names_are_told_apart():
    usual = records()[0]
    other = tf.train.Example()
    other.features.feature["label"].int64_list.value.append(1)
    other.features.feature["image"].bytes_list.value.append(b"1234")
    long_id = Record(usual.image, 0, b"x" * 600, 0, 0, b"g")
    _, layout = layout_of([encode(usual), other.SerializeToString(), encode(long_id), b"", b"\x0a\x00"])
    assert layout.usual.tolist() == [True, False, False, False, False]
