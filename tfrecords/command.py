"""What every command shares: flags in, one call, an exit code out."""

import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from absl import app, flags, logging

from tfrecords import streams
from tfrecords.errors import EndedEarly, InputError
from tfrecords.signals import INTERRUPTED, STOPPED, Terminated, leave, listen, sentence

BAD_INPUT: Final = 2
PEER_LOST: Final = 76  # another worker of a training: run all again
NOT_FINITE: Final = 77  # the loss: the best epoch's model is there
NO_READER: Final = 128 + signal.SIGPIPE  # of what was to be written to a pipe; as shells count
__all__ = ["BAD_INPUT", "INTERRUPTED", "NOT_FINITE", "PEER_LOST", "STOPPED", "run"]


def run(main: Callable[[list[str]], None], *, positional: str = "") -> None:
    """Parses the command line, calls `main(arguments)` and exits.

    The exit code is 0 for success, 2 for bad input (a bad flag included), 75 for SIGTERM, 130 for Ctrl-C,
    that of an `EndedEarly`, and 1 with a traceback for everything else. A reader that leaves (`| head`) ends
    nothing: what is still printed goes nowhere, and the code is that of the work; a command that writes its
    outcome itself to a pipe (`--csv=-`) ends with 141, without a word. Where what was printed did not arrive
    for another reason, a full disk for example, work that is done ends with 2.

    Args:
        main: gets the arguments that are no flags.
        positional: what these arguments are, for the error of a command that takes none ("").
    """
    streams.prepare()
    listen()

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
        except EndedEarly as error:
            _leave(str(error), error.code)
        except Terminated:
            _leave(sentence(signal.SIGTERM), STOPPED)
        except KeyboardInterrupt:
            _leave(sentence(signal.SIGINT), INTERRUPTED)
        except BrokenPipeError:
            _leave("", NO_READER)
        _check_output()

    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _leave(f"error: {error}\nSee --help for the flags and their values.", BAD_INPUT)
    except SystemExit:  # only the help flags exit while parsing, and absl lets them exit with 1
        _check_output()
        sys.exit(0)


def end() -> NoReturn:
    """Ends a process whose work is done, at once: a library's own end may wait for long, or abort it."""
    message = streams.lost()
    leave(message, BAD_INPUT if message else 0)


def _check_output() -> None:
    if message := streams.lost():
        _leave(message, BAD_INPUT)


def _leave(message: str, code: int) -> NoReturn:
    if "tensorflow" in sys.modules:  # whose own end may wait for a thread, or for a lost worker
        leave(message, code)
    sys.stdout.flush()
    if message:
        print(message, file=sys.stderr)
    sys.exit(code)
