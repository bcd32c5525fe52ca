import unicodedata

import pytest

from tfrecords.sources.keys import lookalikes, normalized, normalized_path, split_named


@pytest.mark.parametrize(
    "text",
    [
        *("patient 3", " patient 3", "patient 3 ", "patient 3\t", "\ufeffpatient 3", "patient 3\r\n"),
        *("patient\u00a03", "\u2009patient 3\u00a0", "patient\u202f3", "patient  3", "patient\u30003"),
        *(
            "patient 3\u200b",
            "pati\u200bent 3",
            "pati\u00adent 3",
            "\u200epatient 3\u200f",
            "patient 3\u200d",
        ),
        *("patient\u2060 3", "patient \u200c3", "patient 3\u2800", "patient 3\ufe0f"),
    ],
)
def test_stray_spaces_and_what_is_not_seen(text):
    assert normalized(text) == "patient 3"
    assert normalized(normalized(text)) == normalized(text)


@pytest.mark.parametrize("text", ["Röntgen", "Ångström", "가나", "Việt"])
def test_forms_of_unicode_are_one(text):
    assert normalized(unicodedata.normalize("NFD", text)) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text", ["P1", "p1", "a_b", "a-b", "12\u20133", "x\udce9", "\u0645\u06cc\u200c\u062e\u0648", "½"]
)
def test_what_is_seen_stays(text):
    assert normalized(text) == text


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\u00a0\t", "\ufeff", "\u200d"])
def test_spaces_alone_are_nothing(text):
    assert normalized(text) == ""


def test_each_name_of_a_path_is_unified():
    assert normalized_path(" a\u00a0/ e\u0301.png ") == "a/\u00e9.png"


@pytest.mark.parametrize(
    ("text", "split"),
    [
        *((name, "train") for name in ("train", "Train", "TRAINING")),
        *((name, "val") for name in ("val", "Valid", "VALIDATION", "dev", "Eval")),
        *((name, "test") for name in ("test", "TEST", "Testing")),
        *((name, None) for name in ("", "holdout", "1", "train2")),
    ],
)
def test_names_of_splits(text, split):
    assert split_named(text) == split


@pytest.mark.parametrize(
    "pair",
    [
        *(("3", "3.0"), ("3", "3,0"), ("3.50", "3.5"), ("007", "7"), ("1e5", "100000"), ("1E+05", "100000")),
        *(("-0", "0"), ("+3", "3"), ("1,000", "1000"), ("1.234.567", "1234567"), ("1'000", "1000")),
        *(("'007", "7"), ('="007"', "7"), ("\uff13", "3"), ("1.23457E+17", "123456789012345678")),
        ("123456789012345678", "1,23457E+17"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_a_number_in_two_forms(pair, order):
    ((one, other, how),) = lookalikes(["x", *pair[::order], "y"])
    assert {one, other} == set(pair)
    assert "number" in how


@pytest.mark.parametrize(
    "pair",
    [
        *(("Pneumonia", "pneumonia"), ("No Finding", "no_finding"), ("no-finding", "NoFinding")),
        *(
            ("COVID-19", "covid19"),
            ("COVID", "\uff23\uff2f\uff36\uff29\uff24"),
            ("Straße", "STRASSE"),
            ("P1", "p1"),
        ),
        *(("12-3", "12\u20133"), ("Pneumonia.", "Pneumonia"), ("'sick'", "sick"), ("patient 3", "patient_3")),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_words_that_are_most_probably_one(pair, order):
    ((later, earlier, how),) = lookalikes(["x", *pair[::order], "y"])
    assert (earlier, later) == pair[::order]
    assert "case" in how


@pytest.mark.parametrize(
    "keys",
    [
        *(["3", "30", "0.3", "-3", "3.1"], ["A", "A+", "A-", "B"], ["12-3", "1-23", "1.23", "12.3"]),
        *(["grade 1", "grade -1"], ["1.2.840.1", "1.2.840.10"], ["P1", "P01", "P10"], ["1/2", "12"]),
        *(["no", "none", "normal"], ["1.23457E+17", "123456000000000000"], ["a", "á"], ["1e5", "1e6"]),
    ],
)
def test_what_differs_stays_apart(keys):
    assert list(lookalikes(keys)) == []


def test_each_further_form_is_told_once():
    assert [(later, earlier) for later, earlier, _ in lookalikes(["7", "7.0", "007", "x", "X"])] == [
        ("7.0", "7"),
        ("007", "7.0"),
        ("X", "x"),
    ]
