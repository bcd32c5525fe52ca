"""What every command shares: flags in, one call, an exit code out."""

import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from tfrecords.errors import InputError

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def run(main: Callable[[list[str]], None], *, positional: str = "") -> None:
    """Parses the command line, calls `main(arguments)` and exits.

    The exit code is 0 for success, 2 for bad input (a bad flag included), 130 for Ctrl-C, and 1 with
    a traceback for everything else.

    Args:
        main: gets the arguments that are no flags.
        positional: what these arguments are, for the error of a command that takes none ("").
    """

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:  # absl's default lets libraries' notes through
            logging.set_verbosity(logging.WARNING)
        try:
            if argv[1:] and not positional:
                raise InputError(
                    f"unexpected argument {argv[1]!r}: this command takes only flags, "
                    f"written --name=value; see --help"
                )
            main(argv[1:])
        except InputError as error:
            _leave(f"error: {error}", BAD_INPUT)
        except KeyboardInterrupt:
            _leave("interrupted: the same command again goes on from here", INTERRUPTED)

    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _leave(f"error: {error}\nSee --help for the flags and their values.", BAD_INPUT)
    except SystemExit:  # only the help flags exit while parsing, and absl lets them exit with 1
        sys.exit(0)


def _leave(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    print(message, file=sys.stderr)
    sys.exit(code)
