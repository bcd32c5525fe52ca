import dataclasses
import re

import pytest

from tfrecords.errors import InputError
from tfrecords.example import FIELDS, SCHEMA_VERSION, Record, decode, encode

RECORD = Record(
    image=bytes(range(256)) * 3, label=1, id=b"NORMAL/a b%C3%A9.png", source=5216, copy=2, group=b"0f1e2d3c"
)
RECORDS = [
    RECORD,
    Record(image=b"", label=0, id=b"", source=0, copy=0, group=b""),
    dataclasses.replace(RECORD, source=127),
    dataclasses.replace(RECORD, source=128),
    dataclasses.replace(RECORD, source=16384, label=2**31),
    dataclasses.replace(RECORD, source=2**63 - 1),
    dataclasses.replace(RECORD, image=bytes(180 * 180 * 3), id=b"x" * 127, group=b"x" * 128),
]


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def example(tf, **fields):
    """Serializes an Example by TensorFlow's own code."""
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        for name, values in fields.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def values_of(record):
    return {name: [getattr(record, name)] for name in FIELDS}


def test_the_schema():
    # Data sets on disk have these fields: another schema needs another version number.
    assert SCHEMA_VERSION == 1
    assert FIELDS == {
        "copy": "int64",
        "group": "bytes",
        "id": "bytes",
        "image": "bytes",
        "label": "int64",
        "source": "int64",
    }


def test_golden_bytes():
    # Written by hand from the .proto files: whoever changes these bytes changes every data set's hash.
    record = Record(image=b"\x07", label=1, id=b"i", source=300, copy=0, group=b"g")
    assert encode(record).hex(" ") == (
        "0a 5e"
        " 0a 0d 0a 04 63 6f 70 79 12 05 1a 03 0a 01 00"
        " 0a 0e 0a 05 67 72 6f 75 70 12 05 0a 03 0a 01 67"
        " 0a 0b 0a 02 69 64 12 05 0a 03 0a 01 69"
        " 0a 0e 0a 05 69 6d 61 67 65 12 05 0a 03 0a 01 07"
        " 0a 0e 0a 05 6c 61 62 65 6c 12 05 1a 03 0a 01 01"
        " 0a 10 0a 06 73 6f 75 72 63 65 12 06 1a 04 0a 02 ac 02"
    )


@pytest.mark.parametrize("record", RECORDS)
def test_decode_undoes_encode(record):
    assert decode(encode(record)) == record


@pytest.mark.parametrize("record", RECORDS)
def test_tensorflow_reads_what_is_encoded(tf, record):
    parsed = tf.train.Example.FromString(encode(record))
    found = {
        name: list(getattr(feature, f"{FIELDS[name]}_list").value)
        for name, feature in parsed.features.feature.items()
    }
    assert found == values_of(record)


@pytest.mark.parametrize("record", RECORDS)
def test_what_tensorflow_encodes_is_read(tf, record):
    assert decode(example(tf, **values_of(record))) == record


def test_a_batch_is_parsed_in_graph(tf):
    spec = {
        name: tf.io.FixedLenFeature([], tf.string if k == "bytes" else tf.int64) for name, k in FIELDS.items()
    }
    parsed = tf.io.parse_example([encode(record) for record in RECORDS], spec)
    assert parsed.keys() == FIELDS.keys()
    for name in FIELDS:
        assert parsed[name].numpy().tolist() == [getattr(record, name) for record in RECORDS]


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_refused(tf, name, facts):
    fields = values_of(RECORD)
    del fields[name]
    with pytest.raises(InputError) as caught:
        decode(example(tf, **fields))
    assert re.search(
        facts(
            f"not a record of schema 1 (fields {', '.join(sorted(fields))}): it must have exactly the fields "
            f"copy, group, id, image, label, source; convert the images again with this version"
        ),
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"age": [40]}, "field 'age' is unknown"),
        ({"label": [1, 0]}, "several numbers where one is expected"),
        ({"image": [b"a", b"b"]}, "2 values where one is expected"),
        ({"label": [b"1"]}, "0 values where one is expected"),
        ({"id": [7]}, "0 values where one is expected"),
    ],
)
def test_an_extra_or_wrong_field_is_refused(tf, change, found):
    with pytest.raises(InputError) as caught:
        decode(example(tf, **(values_of(RECORD) | change)))
    assert str(caught.value).startswith(
        f"not a record of schema 1 ({found}): it must have exactly the fields"
    )


def test_a_field_twice_is_refused():
    twice = encode(RECORD) + encode(RECORD)  # protocol buffers merge what is concatenated
    with pytest.raises(InputError, match="field 'copy' twice"):
        decode(twice)


def test_every_cut_is_refused():
    data = encode(dataclasses.replace(RECORD, image=b"image"))
    for size in range(len(data)):
        with pytest.raises(InputError, match="not a record of schema 1"):
            decode(data[:size])
