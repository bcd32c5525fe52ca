"""The fixture `facts`: what of a message is held by its tests, and what is not."""

import re

import pytest

SAID = (
    "--size=(0, 0): each side must be from 1 to 8192 pixels; /data/x/a.png in 'train' has 3 of 12; run\n"
    "  python -m tfrecords.convert --images=IMAGES --out=/data/x"
)


@pytest.mark.parametrize(
    "message",
    [
        SAID,
        "Of /data/x/a.png in 'train' there are 3 of 12, with --size=(0, 0). Give 1 to 8192. Then call "
        "python -m tfrecords.convert --images=IMAGES --out=/data/x",
    ],
)
def test_other_words_say_the_same(facts, message):
    assert re.search(facts(SAID), message)


@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        ("--size=(0, 0)", "--sizes=(0, 0)"),
        ("8192", "4096"),
        ("a.png", "b.png"),
        ("'train'", "'val'"),
        ("3 of 12", "4 of 12"),
        ("python -m tfrecords.convert", "python -m tfrecords.verify"),
        ("--out=/data/x", "--out=/data/y"),
        ("each side", "Traceback: each side"),
    ],
)
def test_another_name_value_or_fix_is_found(facts, was, is_now):
    assert was in SAID
    assert not re.search(facts(SAID), SAID.replace(was, is_now, 1))


def test_what_is_said_twice_must_be_there_twice(facts):
    assert not re.search(facts("3 rows in a.csv, 3 in b.csv"), "3 rows in a.csv, none in b.csv")


def test_a_message_without_any_fact_is_no_test(facts):
    with pytest.raises(AssertionError, match="no name and no value"):
        facts("something went wrong")
