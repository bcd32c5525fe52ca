"""The command line of every launcher: its own flags, then `--`, then the command to run."""

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from absl import app, flags

from launch.exits import BAD_INPUT, INTERRUPTED

_ENV_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


flags.disclaim_key_flags()  # flags made by `define_path` belong to the command and are in its --help


class LaunchError(ValueError):
    """Bad input in a flag, a file or the environment; its message has the name, the value and the fix."""


class _PathParser(flags.ArgumentParser[str]):
    """Parses a path and replaces `~` by the home folder; a shell does not do that in `--flag=~/folder`."""

    def parse(self, argument: str) -> str:
        path = os.path.expanduser(argument)  # noqa: PTH111 - raises nothing
        if argument.startswith("~") and path == argument:
            raise ValueError(
                f"no home folder {argument.partition('/')[0]!r} exists; for a folder of this name write "
                f"./{argument}"
            )
        return path


def define_path(name: str, default: str | None, text: str, *, allow_override: bool = False) -> Any:
    """Defines a flag whose value is a path; `~` and `~user` at its start are home folders.

    Args:
        name: name of the flag.
        default: value without the flag; None or a path.
        text: help of the flag.
        allow_override: whether it may replace an existing flag of this name.

    Returns:
        what `flags.DEFINE_string` returns.
    """
    parser, serializer = _PathParser(), flags.ArgumentSerializer[str]()
    return flags.DEFINE(parser, name, default, text, serializer=serializer, allow_override=allow_override)


def run(main: Callable[[list[str]], int], without_command: Callable[[list[str]], int] | None = None) -> None:
    """Parses the command line, calls `main(command)` and exits with its code; bad input exits with 2.

    Args:
        main: gets the command to run: all words after the first `--`.
        without_command: gets the positional words of a command line without `--`, such as `status JOB`.
    """
    _prepare_output()
    own, command = split(sys.argv)

    def guarded(rest: list[str]) -> None:
        try:
            if without_command and rest[1:] and not command:
                sys.exit(without_command(rest[1:]))
            if rest[1:]:
                raise LaunchError(
                    f"unexpected argument {rest[1]!r}: write the flags of this command, then `--`, then the "
                    f"command to run; see --help"
                )
            if not command:
                raise LaunchError(
                    "no command to run: write it after `--`, as in\n"
                    "  -- python -m trainer.main --strategy=multi_worker"
                )
            sys.exit(main(command))
        except LaunchError as error:
            _refuse(str(error))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    code: Any = 0
    try:
        app.run(guarded, argv=own, flags_parser=_parse)
    except SystemExit as end:
        code = end.code
    except BrokenPipeError:  # the reader of the output has left
        code = 0
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"error: standard output: cannot be written: {error.strerror}", file=sys.stderr)
            code = code or BAD_INPUT
    sys.exit(code)


def _prepare_output() -> None:
    """Escapes characters that the encoding of the output lacks, and opens closed outputs on /dev/null.

    So no file that is opened later gets the number of a closed output and receives what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Returns the words before the first `--` and the words after it, unchanged."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def parse_environment(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Returns NAME=VALUE texts as pairs.

    Raises:
        LaunchError: a text is not of this form.
    """
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not _ENV_NAME.fullmatch(name):
            raise LaunchError(
                f"--env={text}: must be NAME=VALUE; NAME may have letters, digits and _, and starts with no "
                f"digit"
            )
        pairs.append((name, value))
    return tuple(pairs)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _refuse(f"{error}\nSee --help for the flags and their values.")
    except SystemExit:  # only the help flags exit while parsing, and absl makes them exit with 1
        sys.exit(0)


def _refuse(message: str) -> NoReturn:
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(BAD_INPUT)
