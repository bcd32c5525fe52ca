import re

import pytest

from tfrecords.errors import InputError
from tfrecords.positive import positive_class, positive_in_words


@pytest.mark.parametrize(
    ("finding", "normal"),
    [
        ("PNEUMONIA", "NORMAL"),
        ("COVID", "NORMAL"),
        ("Covid-19", "Normal (IM)"),
        ("Tuberculosis", "normal_2"),
        ("ABNORMAL", "NORMAL"),
        ("diseased", "healthy"),
        ("Apple___Black_rot", "Apple___healthy"),
        ("Pneumonia", "Negative for Pneumonia"),
        ("covid_positive", "covid_negative"),
        ("Effusion", "No Finding"),
        ("effusion", "no_finding"),
        ("Effusion", "NoFinding"),
        ("glioma", "notumor"),
        ("tumor", "notumor"),
        ("tumor", "no_tumor"),
        ("DR", "No_DR"),
        ("DR", "NoDR"),
        ("yes", "no"),
        ("crack", "non-crack"),
        ("Demented", "NonDemented"),
        ("demented", "nondemented"),
        ("Parasitized", "Uninfected"),
        ("smoky", "unsmoky"),
        ("abnormality", "none"),
        ("malignant", "benign"),
        ("aspirin", "control_group"),
        ("cloudy", "clear"),
        ("def_front", "ok_front"),
        ("bad", "good"),
        ("fail", "pass"),
        ("lesion", "lesion absent"),
        ("cancer", "cancer-free"),
        ("free_fluid", "no_free_fluid"),
        # What denies that all is well is the finding.
        ("non_benign", "benign"),
        ("not normal", "normal"),
        ("nonnormal", "normal"),
        ("not_ok", "ok"),
        ("unhealthy", "healthy"),
        ("no good", "good"),
        # Of two that are harmless, the more normal one.
        ("benign", "normal"),
        ("control", "healthy"),
        # Words inside other words and other uses say nothing: the last in order.
        ("papillary_carcinoma", "clear_cell_carcinoma"),
        ("nodule", "mass"),
        ("dog", "cat"),
        ("1", "0"),
        ("1", "no"),
    ],
)
def test_the_finding_is_the_class_that_does_not_say_normal(finding, normal):
    names = tuple(sorted((finding, normal)))
    assert positive_class(names) == finding
    # What is chosen counts, whatever the names say.
    assert positive_class(names, normal) == normal
    assert positive_class(names, f" {finding} ") == finding


def test_two_names_that_say_normal_alike_leave_it_to_the_order():
    assert positive_class(("Normal", "healthy")) == "healthy"
    assert positive_class(("good", "ok")) == "ok"


def test_accents_are_compared_as_they_look():
    assert positive_class(("Gesund", "Entzu\u0308ndung"), "Entz\u00fcndung") == "Entzu\u0308ndung"


def test_more_than_two_classes_have_no_finding():
    assert positive_class(("A", "B", "NORMAL")) == ""
    assert positive_in_words(("A", "B", "NORMAL")) == ""


@pytest.mark.parametrize(
    ("names", "chosen", "message"),
    [
        (("COVID", "NORMAL"), "covid", "--positive=covid: is not a class; must be one of COVID, NORMAL"),
        (("A", "B", "C"), "A", "--positive=A: is for two classes, but there are 3"),
    ],
)
def test_what_is_no_class_is_refused(names, chosen, message, facts):
    for ask in (positive_class, positive_in_words):
        with pytest.raises(InputError) as caught:
            ask(names, chosen)
        assert re.search(facts(message), str(caught.value))


def test_in_words_it_is_said_why_and_how_to_change_it():
    assert positive_in_words(("COVID", "NORMAL"), "NORMAL") == "NORMAL (as --positive says)"
    said = positive_in_words(("COVID", "NORMAL"))
    assert said.startswith("COVID (NORMAL is the negative class by its name")
    for names in (("cat", "dog"), ("healthy", "normal")):
        assert positive_in_words(names).startswith(f"{names[1]} (the last in order")
    for names in (("COVID", "NORMAL"), ("dog", "cat"), ("healthy", "normal")):
        other = next(name for name in names if name != positive_class(names))
        assert f"--positive={other}" in positive_in_words(names)
