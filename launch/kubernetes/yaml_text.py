"""Writes plain values as YAML in block style, with comments, which PyYAML cannot write."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

# Text that needs no quotes: no reader of YAML 1.1 or 1.2 takes it for a number, a key or a YAML sign.
_PLAIN: Final = re.compile(r"[A-Za-z/](?:[A-Za-z0-9._/:-]*[A-Za-z0-9._/-])?")
_WORDS: Final = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def render(value: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Returns a YAML document.

    Args:
        value: a mapping of dicts, lists, texts, numbers, True and False.
        comments: {path of a key: text above it}; paths are as `spec.template` or `spec.containers[0].env`.

    Raises:
        KeyError: a comment has a path that does not exist.
    """
    left = dict(comments)
    text = "".join(f"{line}\n" for line in _mapping(value, "", left))
    if left:
        raise KeyError(f"comments of no key: {', '.join(left)}")
    return text


def in_comment(text: str) -> str:
    """Returns a text as comment lines; characters that cannot be printed are escaped."""
    return "".join(f"# {_printable(line)}\n" for line in text.split("\n"))


def _mapping(value: Mapping[str, Any], path: str, comments: dict[str, str]) -> Iterator[str]:
    for key, item in value.items():
        at = f"{path}.{key}" if path else key
        for line in comments.pop(at, "").splitlines():
            yield f"# {line}"
        if isinstance(item, dict | list) and item:
            yield f"{_scalar(key)}:"
            inner = _mapping(item, at, comments) if isinstance(item, dict) else _sequence(item, at, comments)
            yield from (f"  {line}" for line in inner)
        else:
            yield f"{_scalar(key)}: {_scalar(item)}"


def _sequence(value: list[Any], path: str, comments: dict[str, str]) -> Iterator[str]:
    for number, item in enumerate(value):
        if isinstance(item, dict) and item:
            before = "- "
            for line in _mapping(item, f"{path}[{number}]", comments):
                if before == "- " and line.startswith("#"):
                    yield line
                else:
                    yield before + line
                    before = "  "
        else:
            yield f"- {_scalar(item)}"


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    """Escapes characters that end a line in YAML, or that YAML does not allow."""
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in text)
