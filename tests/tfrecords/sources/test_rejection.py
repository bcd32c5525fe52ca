import csv
import io
import re
from pathlib import Path

import pytest

from tfrecords.errors import InputError
from tfrecords.sources.rejection import MaxRejects, check_rejects, parse_max_rejects, render_rejected, shown


@pytest.mark.parametrize(
    ("text", "total", "limit"),
    [
        ("0", 100, 0),
        ("12", 5, 12),
        (" 3 ", 100, 3),
        ("0%", 100, 0),
        ("1%", 99, 0),  # rounded down
        ("1%", 100, 1),
        ("0.5%", 1000, 5),
        ("29%", 100, 29),  # 100 * 29 / 100, and not 0.29 * 100 = 28.99...
        ("100%", 7, 7),
        ("50%", 0, 0),
    ],
)
def test_how_many_may_be_left_out(text, total, limit):
    assert parse_max_rejects(text).of(total) == limit


@pytest.mark.parametrize("text", ["", "-1", "1.5", "%", "-1%", "1e2%", "nan%", "all", "5 %%"])
def test_what_is_no_limit(text, facts):
    with pytest.raises(InputError) as caught:
        parse_max_rejects(text)
    assert re.search(
        facts(f"--max_rejects={text}: must be a number of images or a percentage, as 12 or 0.5%"),
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": -1}, "--max_rejects=-1: must be 0 or more"),
        ({"percent": 101.0}, "--max_rejects=101%: must be from 0% to 100%"),
        ({"percent": -0.5}, "--max_rejects=-0.5%: must be from 0% to 100%"),
        ({"percent": float("nan")}, "--max_rejects=nan%: must be from 0% to 100%"),
    ],
)
def test_limits_that_cannot_be(values, message, facts):
    with pytest.raises(InputError) as caught:
        MaxRejects(**values)
    assert re.search(facts(message), str(caught.value))


def test_the_file_reads_back_as_it_was():
    rejected = [("A/1.png", "cut"), ('A/quo"te, comma.png', "starts with b'new\\n'"), ("B/2.png", "a\nb")]
    rows = list(csv.reader(io.StringIO(render_rejected(rejected).decode(), newline="")))
    assert rows == [["id", "reason"], *map(list, rejected)]


def test_as_many_as_allowed_are_no_error():
    check_rejects(Path("images"), [], 0)
    check_rejects(Path("images"), [("a", "cut"), ("b", "cut")], 2)


FIX = (
    "then the same command again keeps the shards that are whole, leave it out with a larger --max_rejects, "
    "or remove it and convert with --overwrite"
)


def test_too_many_are_named(facts):
    with pytest.raises(InputError) as caught:
        check_rejects(Path("images"), [("A/1.png", "cut")], 0)
    assert re.search(facts(f"images/A/1.png: cut; repair it, {FIX}"), str(caught.value))
    with pytest.raises(InputError) as caught:
        check_rejects(Path("images"), [("A/1.png", "cut"), ("B/2.png", "empty")], 1)
    assert re.search(
        facts(
            f"images: 2 images cannot be used, --max_rejects allows 1:\n  A/1.png: cut\n  B/2.png: empty\n"
            f"For each: repair it, {FIX}."
        ),
        str(caught.value),
    )


def test_ten_are_shown_and_the_rest_counted():
    lines = shown([(f"{n}.png", "cut") for n in range(13)]).splitlines()
    assert lines == [*(f"  {n}.png: cut" for n in range(10)), "  ... and 3 more"]
    assert len(shown([(f"{n}.png", "cut") for n in range(10)]).splitlines()) == 10
