import pytest

from tfrecords.text.names import columns, drawn_names, isolated, legend, wrapped


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("NORMAL", 10, ["NORMAL"]),
        ("", 10, [""]),
        ("pleural effusion", 10, ["pleural", "effusion"]),
        ("pleural_effusion-left", 17, ["pleural_effusion-", "left"]),
        ("a/b/c/d/e", 4, ["a/b/", "c/d/", "e"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("in abcdefghij", 4, ["in", "abcd", "efgh", "ij"]),
        ("two  \n spaces", 20, ["two spaces"]),
        ("肺炎球菌性", 4, ["肺炎", "球菌", "性"]),  # each as wide as two letters
        ("肺", 1, ["肺"]),
        ("e\N{COMBINING ACUTE ACCENT}e\N{COMBINING ACUTE ACCENT}", 2, ["e\N{COMBINING ACUTE ACCENT}" * 2]),
    ],
)
def test_long_names_go_on_in_the_next_line(text, width, lines):
    assert wrapped(text, width) == lines


def test_no_line_is_wider_than_its_room_by_any_measure():
    lines = wrapped("chest_xray with " * 9 + "W" * 80, 50, lambda text: 3.5 * len(text))
    assert max(map(len, lines)) == 14  # 14 x 3.5 = 49
    assert "".join(lines).replace(" ", "") == ("chest_xraywith" * 9 + "W" * 80)


def test_columns():
    assert [columns(text) for text in ("abc", "肺炎", "e\N{COMBINING ACUTE ACCENT}", "")] == [3, 4, 1, 0]


def test_names_that_cannot_be_drawn_or_read_are_numbered_and_told(no_fonts):
    names = ["NORMAL", "肺炎", "x" * 88, "x" * 89]  # four lines of 22
    drawn = drawn_names(names, shapes=False)
    assert drawn == ["NORMAL", "class 1", "x" * 88, "class 3"]
    assert legend(names, drawn) == f"In the pictures class 1 is 肺炎, class 3 is {'x' * 89}."
    assert legend(["A", "B"], drawn_names(["A", "B"], shapes=False)) == ""


def test_names_that_a_font_has_are_drawn(installed):
    installed("正常肺炎", "Some Sans")
    assert drawn_names(["正常", "肺炎"], shapes=False) == ["正常", "肺炎"]


@pytest.mark.parametrize(("classes", "most"), [(8, 88), (9, 44), (20, 44), (21, 22)])
def test_more_classes_leave_less_room_for_each(classes, most):
    names = ["x" * most, "y" * (most + 1), *map(str, range(classes - 2))]
    assert drawn_names(names, shapes=False)[:2] == ["x" * most, "class 1"]


def test_a_name_from_right_to_left_leaves_the_numbers_beside_it_in_place():
    assert isolated("NORMAL 1") == "NORMAL 1"
    assert isolated("طبيعي") == "\u2068طبيعي\u2069"
