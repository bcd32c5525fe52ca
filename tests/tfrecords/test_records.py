import itertools
import re

import pytest

from tfrecords.errors import InputError
from tfrecords.records import frame, read_records, read_spans

PAYLOADS = [b"first", b"", bytes(range(256)), b"\x00" * 1000]


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def test_the_framing_is_tensorflows(tf, tmp_path):
    theirs = tmp_path / "theirs"
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    assert b"".join(map(frame, PAYLOADS)) == theirs.read_bytes()
    assert list(read_records(theirs)) == PAYLOADS


def test_tensorflow_reads_our_file(tf, tmp_path):
    ours = tmp_path / "ours"
    ours.write_bytes(b"".join(map(frame, PAYLOADS)))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(ours))] == PAYLOADS


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "empty").touch()
    assert list(read_records(tmp_path / "empty")) == []


@pytest.mark.slow
def test_every_flipped_bit_is_found(tmp_path, facts):
    path = tmp_path / "shard"
    framed = [frame(payload) for payload in PAYLOADS[:3]]
    whole = b"".join(framed)
    starts = [0, *itertools.accumulate(map(len, framed))]
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        number = next(i for i in range(3) if bit // 8 < starts[i + 1])
        what = "a damaged length" if bit // 8 - starts[number] < 12 else "damaged data"
        with pytest.raises(InputError) as caught:
            list(read_records(path))
        assert re.search(
            facts(
                f"{path}: record {number} at byte {starts[number]} has {what} (CRC mismatch); convert again"
            ),
            str(caught.value),
        )


def test_every_cut_is_named(tmp_path, facts):
    path = tmp_path / "shard"
    framed = [frame(payload) for payload in PAYLOADS[:3]]
    whole = b"".join(framed)
    starts = [0, *itertools.accumulate(map(len, framed))]
    for size in set(range(len(whole))) - set(starts):
        path.write_bytes(whole[:size])
        number = next(i for i in range(3) if size < starts[i + 1])
        cut = " in its header"
        if size - starts[number] >= 12:
            cut = f": {len(PAYLOADS[number])} bytes announced"
        found = []
        with pytest.raises(InputError) as caught:
            found.extend(read_records(path))
        assert re.search(
            facts(f"{path}: record {number} at byte {starts[number]} is cut{cut}; convert again"),
            str(caught.value),
        )


def test_whole_records_before_the_damage_are_read(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"".join(map(frame, PAYLOADS))[:-1])
    reader = read_records(path)
    assert list(itertools.islice(reader, 3)) == PAYLOADS[:3]
    with pytest.raises(InputError, match="record 3 at byte 309 is cut: 1000 bytes announced"):
        next(reader)


def test_spans_are_where_the_frames_are(tmp_path):
    path = tmp_path / "shard"
    framed = list(map(frame, PAYLOADS))
    path.write_bytes(b"".join(framed))
    starts = [0, *itertools.accumulate(map(len, framed))]
    assert list(read_spans(path)) == list(zip(starts, map(len, framed), strict=False))
    path.write_bytes(b"")
    assert list(read_spans(path)) == []


def test_spans_of_a_harmed_file_are_refused_as_its_records_are(tmp_path):
    """But for damage in the data, which spans do not read."""
    path = tmp_path / "shard"
    framed = [frame(payload) for payload in PAYLOADS[:3]]
    whole = b"".join(framed)
    starts = [0, *itertools.accumulate(map(len, framed))]
    harmed = [whole[:size] for size in set(range(len(whole))) - set(starts)]
    for bit in (8 * start + bit for start in starts[:3] for bit in range(8 * 12)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        harmed.append(bytes(damaged))
    for content in harmed:
        path.write_bytes(content)
        errors = []
        for read in (read_records, read_spans):
            with pytest.raises(InputError) as caught:
                list(read(path))
            errors.append(str(caught.value))
        assert errors[0] == errors[1]
