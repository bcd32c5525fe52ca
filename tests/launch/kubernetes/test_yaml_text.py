"""Our YAML, read by PyYAML: the same values, whatever is in them."""

import pytest
import yaml

from launch.kubernetes.yaml_text import in_comment, render

TEXTS = [
    *("", " ", "a", "A-b_c.d/e", "/data", "r.io:5000/a:1", "a:", "a: b", "a #b", "#", "-", "-m", "--", "---"),
    *(
        "true",
        "False",
        "YES",
        "no",
        "On",
        "y",
        "N",
        "null",
        "Null",
        "~",
        "None",
        "0",
        "1",
        "1.5",
        "1e3",
        ".inf",
    ),
    *("0x1f", "1:30", "2026-01-01", "=", "<<", "*a", "&a", "!a", "%a", "@a", "`a`", "{a}", "[a]", "a,b", "?"),
    *(
        '"',
        "'",
        "\\",
        "\\n",
        "it's",
        'say "x"',
        "$(X)",
        "$$",
        "|",
        ">",
        "two\nlines",
        "\ttab",
        " a ",
        "a\r\n",
    ),
    *("é", "日本", "\U0001f600", "\x00", "\x07", "\x7f", "\x85", "\xa0", "\u2028", "\ufeff", "\ufffe"),
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_text_stays_itself(text):
    value = {"a": text, "b": [text, {"c": text, "d": [text]}], "e": {"f": text}}
    value |= {text: 1} if text.isprintable() and text else {}
    assert yaml.safe_load(render(value, {})) == value


@pytest.mark.parametrize("value", [0, 7, -1, True, False, None, 1.5, [], {}, [1, [], {}], {"a": {"b": []}}])
def test_other_values(value):
    assert yaml.safe_load(render({"a": value}, {})) == {"a": value}


def test_block_style_with_comments_above_their_keys():
    value = {"a": {"b": [{"c": 1, "d": "x y"}, {"e": 2}]}, "f": ["g"]}
    assert render(value, {"a.b[0].c": "one\ntwo", "f": "three"}) == (
        'a:\n  b:\n    # one\n    # two\n    - c: 1\n      d: "x y"\n    - e: 2\n# three\nf:\n  - g\n'
    )


def test_a_comment_has_a_key():
    with pytest.raises(KeyError, match=r"a\.c"):
        render({"a": {"b": 1}}, {"a.c": "text"})


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_what_is_in_a_comment_is_nothing_else(text):
    assert yaml.safe_load(in_comment(f"made by {text}\nx") + "a: 1\n") == {"a": 1}
