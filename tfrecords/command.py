"""What every command shares: flags in, one call, an exit code out."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from absl import app, flags, logging

from tfrecords import streams
from tfrecords.errors import EndedEarly, InputError
from tfrecords.signals import INTERRUPTED, STOPPED, Terminated, leave, listen, sentence

BAD_INPUT: Final = 2
LEFT_OUT: Final = 3  # done, but something was left out, and is listed
PEER_LOST: Final = 76  # another worker of a training: run all again
NOT_FINITE: Final = 77  # the loss: the best epoch's model is there
NO_READER: Final = 128 + signal.SIGPIPE  # of what was to be written to a pipe; as shells count
__all__ = ["BAD_INPUT", "INTERRUPTED", "LEFT_OUT", "NOT_FINITE", "PEER_LOST", "STOPPED", "define_path", "run"]

flags.disclaim_key_flags()  # those defined by `define_path` are the command's, and stand in its --help


class _PathParser(flags.ArgumentParser[str]):
    """Takes a path, and puts the home folder in the place of `~`: a shell leaves it in `--flag=~/folder`."""

    def parse(self, argument: str) -> str:
        path = os.path.expanduser(argument)  # noqa: PTH111 - a URL is no Path
        if argument.startswith("~") and path == argument:
            raise ValueError(
                f"there is no home folder {argument.partition('/')[0]!r}; for a folder of this name write "
                f"./{argument}"
            )
        return path


def define_path(name: str, default: str | None, text: str, *, required: bool = False) -> Any:
    """Defines a flag whose value is a path or a URL; `~` and `~user` at its start are home folders.

    Args:
        name: of the flag.
        default: its value where it is not given; None or a path.
        text: its help.
        required: whether it must be given.

    Returns:
        what `flags.DEFINE_string` returns.
    """
    parser, serializer = _PathParser(), flags.ArgumentSerializer[str]()
    return flags.DEFINE(parser, name, default, text, serializer=serializer, required=required)


def run(main: Callable[[list[str]], None], *, positional: str = "", paths: bool = False) -> None:
    """Parses the command line, calls `main(arguments)` and exits.

    The exit code is 0 for success, 2 for bad input (a bad flag included), 75 for SIGTERM, 130 for Ctrl-C,
    that of an `EndedEarly`, and 1 with a traceback for everything else. A reader that leaves (`| head`) ends
    nothing: what is still printed goes nowhere, and the code is that of the work; a command that writes its
    outcome itself to a pipe (`--csv=-`) ends with 141, without a word. Where what was printed did not arrive
    for another reason, a full disk for example, work that is done ends with 2.

    Args:
        main: gets the arguments that are no flags.
        positional: what these arguments are, for the error of a command that takes none ("").
        paths: whether they are paths; `~` at the start of one that is not there is a home folder.
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
            main([_expanded(argument) for argument in argv[1:]] if paths else argv[1:])
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


class _Help(app.HelpFlag):
    """Prints what --help prints: the command's docstring, then its flags by group."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # absl has no types here
        self.allow_override = True  # it takes the place of absl's own

    def parse(self, arg: Any) -> None:
        flags.BooleanFlag.parse(self, arg)
        if self.value:
            print(help_page())
            sys.exit(0)


class _HelpShort(_Help):
    """Is another name of --help."""

    NAME = "helpshort"
    SHORT_NAME = None


def help_page() -> str:
    """Returns the docstring of the command that runs, then its flags by group, as wide as the terminal.

    Each module that the command adopts flags from (`flags.adopt_module_key_flags`) is a group. The first line
    of its docstring is the title. The command's own flags come first, then the groups in the order in which
    they are adopted; in a group flags stand as they are defined.
    """
    groups: dict[str, list[Any]] = {}
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        groups.setdefault(flags.FLAGS.find_module_defining_flag(flag.name), []).append(flag)
    lines = [(sys.modules["__main__"].__doc__ or "").rstrip(), "\nflags:"]
    for module, found in groups.items():
        if title := _title(module):
            lines.append(f"\n{flags.text_wrap(title)}")
        lines += [_shown(flag) for flag in found]
    return "\n".join([*lines, "\nTry --helpfull to get a list of all flags."])


def _title(module: str) -> str:
    """Returns the first line of a module's docstring; "" of the command itself, which opens the page."""
    if module == sys.argv[0] or module not in sys.modules:
        return ""
    return (sys.modules[module].__doc__ or "").partition("\n")[0]


def _shown(flag: Any) -> str:
    name = f"[no]{flag.name}" if flag.boolean else flag.name
    default = (flag.default_as_str or "").strip("'")
    notes = [f"default: {default}" if default else "", flag.parser.syntactic_help]
    lines = [flags.text_wrap(f"--{name}: {flag.help}", indent="    ", firstline_indent="  ")]
    if note := "; ".join(filter(None, notes)):
        lines.append(flags.text_wrap(f"({note})", indent="    "))
    return "\n".join(lines)


def _expanded(path: str) -> str:
    return path if os.path.lexists(path) else os.path.expanduser(path)  # noqa: PTH111


def _parse(argv: list[str]) -> list[str]:
    for own in (_Help(), _HelpShort()):
        flags.DEFINE_flag(own)
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
