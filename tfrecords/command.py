"""What every command shares: it parses flags, makes one call, and ends with an exit code."""

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
LEFT_OUT: Final = 3  # done, but something was left out and is listed
PEER_LOST: Final = 76  # another worker of the training was lost: run all workers again
NOT_FINITE: Final = 77  # the loss is not finite; the model of the best epoch is saved
NO_READER: Final = 128 + signal.SIGPIPE  # the reader of a pipe closed it; the code that shells give
__all__ = [
    "BAD_INPUT",
    "INTERRUPTED",
    "LEFT_OUT",
    "NOT_FINITE",
    "PEER_LOST",
    "STOPPED",
    "define_path",
    "flag_group",
    "run",
]

flags.disclaim_key_flags()  # flags defined by `define_path` belong to the command and are in its --help

_groups: list[tuple[str, frozenset[str]]] = []  # titles, each with the flags that were defined before it


def flag_group(title: str) -> None:
    """Starts a group of flags in --help: all flags that are defined from here to the next group."""
    _groups.append((title, frozenset(flags.FLAGS)))


class _HelpFlag(flags.BooleanFlag):
    """--help, with the flags in groups; absl sorts them all by name."""

    def __init__(self) -> None:
        super().__init__("help", False, "show this help", short_name="?", allow_override=True)

    def parse(self, argument: Any) -> None:
        if self._parse(argument):
            text = (sys.modules["__main__"].__doc__ or "").rstrip()
            print(f"{text}\n{_flags_help()}\n--helpfull lists the flags of all libraries, too.")
            sys.exit(0)


def _flags_help() -> str:
    """Returns the help of the command's flags, by their groups, in the order of their definition."""
    groups: dict[str, list[str]] = {}
    own = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
    for name in flags.FLAGS:
        if name in own:
            groups.setdefault(_group_of(name), []).append(_flag_help(own[name]))
    return "".join(f"\n{title}:\n" + "\n".join(texts) + "\n" for title, texts in groups.items())


def _group_of(name: str) -> str:
    """Returns the title of a flag's group; without one, the first line of the module that defines it."""
    titles = [title for title, before in _groups if name not in before]
    if titles:
        return titles[-1]
    module = sys.modules.get(str(flags.FLAGS.find_module_defining_flag(name)))
    return (module.__doc__ or "").partition("\n")[0].rstrip(".:") if module else "Flags"


def _flag_help(flag: flags.Flag[Any]) -> str:
    lines = [f"--{'[no]' * bool(flag.boolean)}{flag.name}: {flag.help}"]
    if default := (flag.default_as_str or "").strip("'"):
        lines.append(f"(default: {default})")
    if flag.parser.syntactic_help:
        lines.append(f"({flag.parser.syntactic_help})")
    first, *others = lines
    wrapped = [flags.text_wrap(first, indent="    ", firstline_indent="  ")]
    return "\n".join(wrapped + [flags.text_wrap(line, indent="    ") for line in others])


class _PathParser(flags.ArgumentParser[str]):
    """Takes a path; replaces `~` at its start by the home folder, which a shell does not in `--flag=~/x`."""

    def parse(self, argument: str) -> str:
        path = os.path.expanduser(argument)  # noqa: PTH111 - a URL is no Path
        if argument.startswith("~") and path == argument:
            raise ValueError(
                f"there is no home folder {argument.partition('/')[0]!r}; for a folder of this name write "
                f"./{argument}"
            )
        return path


def define_path(name: str, default: str | None, text: str, *, required: bool = False) -> Any:
    """Defines a flag whose value is a path or a URL; `~` and `~user` at its start mean home folders.

    Args:
        name: of the flag.
        default: its value if it is not given; None or a path.
        text: its help.
        required: whether it must be given.

    Returns:
        a flag holder, as `flags.DEFINE_string` does.
    """
    parser, serializer = _PathParser(), flags.ArgumentSerializer[str]()
    return flags.DEFINE(parser, name, default, text, serializer=serializer, required=required)


def run(main: Callable[[list[str]], None], *, positional: str = "", paths: bool = False) -> None:
    """Parses the command line, calls `main(arguments)` and exits.

    The exit code is 0 for success, 2 for bad input (a bad flag included), 75 for SIGTERM, 130 for Ctrl-C,
    that of an `EndedEarly`, and 1 with a traceback for everything else. If the reader of standard output
    closes it (`| head`), the command goes on, prints nothing more, and ends with the code of its work. If it
    writes its result to that pipe (`--csv=-`), it ends with 141 and no message. If printed text is lost for
    another reason, for example a full disk, the command ends with 2 after its work.

    Args:
        main: called with the arguments that are not flags.
        positional: what these arguments are; "": the command takes none, and one is an error.
        paths: whether the arguments are paths; if one does not exist, `~` at its start means a home folder.
    """
    streams.prepare()
    listen()

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:  # absl's default prints notes of libraries
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


def _expanded(path: str) -> str:
    return path if os.path.lexists(path) else os.path.expanduser(path)  # noqa: PTH111


def _parse(argv: list[str]) -> list[str]:
    flags.FLAGS["help"] = _HelpFlag()
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _leave(f"error: {error}\nSee --help for the flags and their values.", BAD_INPUT)
    except SystemExit:  # only help flags exit while flags are parsed; absl's exit with 1
        _check_output()
        sys.exit(0)


def end() -> NoReturn:
    """Ends a process at once, after its work: the normal end of a library may wait for long, or abort."""
    message = streams.lost()
    leave(message, BAD_INPUT if message else 0)


def _check_output() -> None:
    if message := streams.lost():
        _leave(message, BAD_INPUT)


def _leave(message: str, code: int) -> NoReturn:
    if "tensorflow" in sys.modules:  # its normal end may wait for a thread or for a lost worker
        leave(message, code)
    sys.stdout.flush()
    if message:
        print(message, file=sys.stderr)
    sys.exit(code)
