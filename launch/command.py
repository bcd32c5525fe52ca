"""What all commands of this package share: their own flags, then `--`, then the command to run."""

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


flags.disclaim_key_flags()  # those defined by `define_path` are the command's, and stand in its --help


class LaunchError(ValueError):
    """Bad input: a flag, a file or an environment. The message names it, what is allowed, and the fix."""


class _PathParser(flags.ArgumentParser[str]):
    """Takes a path, and puts the home folder in the place of `~`: a shell leaves it in `--flag=~/folder`."""

    def parse(self, argument: str) -> str:
        path = os.path.expanduser(argument)  # noqa: PTH111 - raises nothing
        if argument.startswith("~") and path == argument:
            raise ValueError(
                f"there is no home folder {argument.partition('/')[0]!r}; for a folder of this name write "
                f"./{argument}"
            )
        return path


def define_path(name: str, default: str | None, text: str, *, allow_override: bool = False) -> Any:
    """Defines a flag whose value is a path; `~` and `~user` at its start are home folders.

    Args:
        name: of the flag.
        default: its value where it is not given; None or a path.
        text: its help.
        allow_override: whether it takes the place of a flag of this name.

    Returns:
        what `flags.DEFINE_string` returns.
    """
    parser, serializer = _PathParser(), flags.ArgumentSerializer[str]()
    return flags.DEFINE(parser, name, default, text, serializer=serializer, allow_override=allow_override)


def run(main: Callable[[list[str]], int], without_command: Callable[[list[str]], int] | None = None) -> None:
    """Parses the command line, calls `main(command)` and exits with its code; 2 for bad input.

    Args:
        main: gets the command to run.
        without_command: gets the words that stand there where there is no `--`, for what else this one does.
    """
    _prepare_output()
    own, command = split(sys.argv)

    def guarded(rest: list[str]) -> None:
        try:
            if without_command and rest[1:] and not command:
                sys.exit(without_command(rest[1:]))
            if rest[1:]:
                raise LaunchError(
                    f"unexpected argument {rest[1]!r}: flags of this command come first, then `--`, then the "
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
    except BrokenPipeError:  # who reads the output has seen enough
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
    """Escapes what the output's encoding does not have.

    Where an output is closed, nothing is printed, and no file that is opened later gets its number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Returns what comes before the first `--`, and what comes after it, untouched."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def parse_environment(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Returns NAME=VALUE texts as pairs.

    Raises:
        LaunchError: one is none.
    """
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not _ENV_NAME.fullmatch(name):
            raise LaunchError(f"--env={text}: must be NAME=VALUE, and NAME of letters, digits and _")
        pairs.append((name, value))
    return tuple(pairs)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _refuse(f"{error}\nSee --help for the flags and their values.")
    except SystemExit:  # only the help flags exit while parsing, and absl lets them exit with 1
        sys.exit(0)


def _refuse(message: str) -> NoReturn:
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(BAD_INPUT)
