import pytest
from matplotlib import font_manager

from tfrecords.text import fonts
from tfrecords.text.fonts import font_of, own_font


@pytest.mark.parametrize(
    "text", ["NORMAL", "Lungenentzündung", "Пневмония", "e\N{COMBINING ACUTE ACCENT}", ""]
)
def test_matplotlibs_own_font_has_the_letters_of_most_names(text, no_fonts):
    assert font_of(text, shapes=False) == own_font()
    assert own_font().is_file()


def test_an_installed_font_is_taken_if_it_has_all_letters(installed):
    found = installed("肺炎 x", "Some Sans")
    assert font_of("肺炎 x", shapes=False) == found
    assert font_of("肺 炎", shapes=False) == found
    assert font_of("肺结核", shapes=False) is None  # two of its letters are in none
    assert font_of("x", shapes=False) == own_font()


def test_the_plain_font_of_two_is_taken(installed):
    bold, plain = installed("肺炎", "A Bold"), installed("肺炎", "Z Regular")
    assert bold != plain
    assert font_of("肺炎", shapes=False) == plain


def test_a_font_that_has_a_box_for_every_letter_is_none(installed):
    installed("肺炎", "Last Resort")
    assert font_of("肺炎", shapes=False) is None


def test_what_is_no_font_is_passed_over(installed, tmp_path, monkeypatch):
    bad = tmp_path / "a.ttf"
    bad.write_bytes(b"no font")
    found = installed("肺炎", "Some Sans")
    monkeypatch.setattr(
        font_manager, "findSystemFonts", lambda: [str(bad), str(tmp_path / "gone"), str(found)]
    )
    assert font_of("肺炎", shapes=False) == found


@pytest.mark.parametrize("text", ["التهاب رئوي", "שלום"])
def test_letters_that_join_or_run_from_right_to_left_need_who_shapes_them(text, no_fonts):
    assert font_of(text, shapes=True) == own_font()
    assert font_of(text, shapes=False) is None
    assert fonts.needs_shaping(text[0])
    assert not any(map(fonts.needs_shaping, "Aя肺1 "))
    assert fonts.needs_shaping("ह")
