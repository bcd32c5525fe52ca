import random

import pytest

from tfrecords.errors import InputError, first_names
from tfrecords.sources.classes import class_order, classes_flag


@pytest.mark.parametrize(
    "ordered",
    [
        [str(number) for number in range(1, 13)],
        ["class1", "class2", "class2b", "class10", "class10a"],
        ["a1b9x", "a1b10", "a2b1", "a10b1"],
        ["-10", "-2", "-1", "0", "0.5", "1", "1.25", "1.5", "10.5"],
        ["0", "00", "01", "1", "002", "2", "010", "10"],
        ["0-9", "10-19", "100+"],
        ["3a", "4a", "4b", "5", "10"],
        # Without numbers, and with numbers as wide as each other: as text, as before.
        ["NORMAL", "PNEUMONIA", "a", "b", "Ä"],
        ["(none)", "1", "2", "A", "_x"],
        ["2019-12-31", "2020-01-01", "2020-01-02"],
        ["img_01", "img_02", "img_10"],
        ["x", "x1", "x1y", "xa"],
        ["9" * 5000, "1" + "0" * 5000],
    ],
)
def test_numbers_sort_by_value_and_all_else_as_text(ordered):
    for seed in range(3):
        names = random.Random(seed).sample(ordered, len(ordered))
        assert class_order(names) == tuple(ordered)


def test_a_data_set_without_numbers_keeps_its_order():
    names = ["b", "B", "a b", "a", "a_b", "a-b", "É", "é", "胸部", "z", "Z"]
    assert class_order(names) == tuple(sorted(names))


def test_a_given_order_is_taken():
    assert class_order(["a", "b", "c"], ["c", "a", "b"]) == ("c", "a", "b")
    assert class_order(["caf\u00e9", "tea"], [" tea", "cafe\u0301"]) == ("tea", "caf\u00e9")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a", "b"], "not named: c ("),
        (["a", "b", "c", "d"], "not there: d ("),
        (["a", "b", "c", "a"], "named twice: a ("),
        (["A", "b", "c"], "not named: a; not there: A ("),
    ],
)
def test_a_given_order_must_name_exactly_the_classes(given, said):
    with pytest.raises(InputError) as caught:
        class_order(["a", "b", "c"], given)
    assert str(caught.value).startswith("--classes: must name each of the 3 classes once")
    assert said in str(caught.value)
    assert str(caught.value).endswith("(there are a, b, c)")


def test_texts_stay_short_for_many_classes():
    names = [f"class{number}" for number in range(2000)]
    with pytest.raises(InputError) as caught:
        class_order(names, [f"x{number}" for number in range(2000)])
    text = str(caught.value)
    assert "not named: class0, class1, class2" in text
    assert text.count("and 1,990 more") == 3
    assert len(text) < 700
    assert len(classes_flag(names)) < 120
    assert first_names(names[:10]) == ", ".join(names[:10])


def test_the_flag_is_as_it_is_typed():
    assert classes_flag(["b", "a"]) == "--classes=b,a"
    assert classes_flag(["not sick", "x"]) == "'--classes=not sick,x'"
    assert classes_flag(["a,b", "c"]) == "'--classes=\"a,b\",c'"
