"""What all commands of this package share: their own flags, then `--`, then the command to run."""

import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags

from launch.exits import BAD_INPUT


class LaunchError(ValueError):
    """Bad input: a flag, a file or an environment. The message names it, what is allowed, and the fix."""


def run(main: Callable[[list[str]], int]) -> None:
    """Parses the command line, calls `main(command)` and exits with its code; 2 for bad input."""
    own, command = split(sys.argv)

    def guarded(rest: list[str]) -> None:
        try:
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

    app.run(guarded, argv=own, flags_parser=_parse)


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Returns what comes before the first `--`, and what comes after it, untouched."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


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
