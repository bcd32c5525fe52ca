import os
import pwd
from pathlib import Path

import pytest
from absl import flags

import launch.command
import tfrecords.command

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = '''
"""Ends as it is told to."""

from absl import flags

from tfrecords.command import run
from tfrecords.errors import InputError

_HOW = flags.DEFINE_enum("how", "well", ["well", "bad", "broken", "interrupted"], "How it ends.")
_COUNT = flags.DEFINE_integer("count", 1, "A number.", lower_bound=1)
_NEEDED = flags.DEFINE_string("needed", None, "Must be given.", required=True)


def main(arguments):
    print("main", arguments)
    if _HOW.value == "bad":
        raise InputError("--thing=3: must be 1 or 2")
    if _HOW.value == "broken":
        raise RuntimeError("inside")
    if _HOW.value == "interrupted":
        raise KeyboardInterrupt


if __name__ == "__main__":
    run(main, positional=POSITIONAL)
'''


PATHS = '''
"""Prints paths."""

from absl import flags

from tfrecords.command import define_path, run

_FOLDER = define_path("folder", None, "Folder.", required=True)
_REGEX = flags.DEFINE_string("regex", "", "No path.")


def main(arguments):
    print(_FOLDER.value, _REGEX.value, *arguments)


if __name__ == "__main__":
    run(main, positional="FILE...", paths=True)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("commands")
    (path / "ending.py").write_text(SCRIPT.replace("POSITIONAL", '""'))
    (path / "paths.py").write_text(PATHS)
    (path / "taking.py").write_text(SCRIPT.replace("POSITIONAL", '"FILE..."'))
    return path


@pytest.mark.parametrize(
    ("module", "arguments", "code", "out", "err"),
    [
        ("ending", ["--needed=x"], 0, "main []\n", ""),
        ("ending", ["--needed=x", "--how=bad"], 2, "main []\n", "error: --thing=3: must be 1 or 2\n"),
        (
            "ending",
            ["--needed=x", "--how=interrupted"],
            130,
            "main []\n",
            "interrupted: the same command again goes on from here\n",
        ),
        (
            "ending",
            ["--needed=x", "a.png"],
            2,
            "",
            "error: unexpected argument 'a.png': this command takes only flags, written --name=value; "
            "see --help\n",
        ),
        ("taking", ["--needed=x", "a.png", "b.png"], 0, "main ['a.png', 'b.png']\n", ""),
    ],
)
def test_how_a_command_ends(run_command, folder, module, arguments, code, out, err):
    done = run_command(module, *arguments, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_an_internal_failure_shows_its_traceback(run_command, folder):
    done = run_command("ending", "--needed=x", "--how=broken", cwd=folder)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "RuntimeError: inside" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--needed=x", "--how=odd"], "value should be one of <well|bad|broken|interrupted>"),
        (["--needed=x", "--count=many"], "invalid literal for int() with base 10: 'many'"),
        (["--needed=x", "--count=0"], "flag --count=0: 0 is not a positive integer"),
        (["--needed=x", "--unheard_of=1"], "Unknown command line flag 'unheard_of'"),
        ([], "Flag --needed must have a value other than None."),
    ],
)
def test_a_bad_flag_is_bad_input(run_command, folder, arguments, found):
    done = run_command("ending", *arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert found in done.stderr
    assert done.stderr.endswith("See --help for the flags and their values.\n")
    assert "Traceback" not in done.stderr


# ---- a signal while a command is imported


@pytest.mark.parametrize("package", ["tfrecords", "data_pipeline", "trainer"])
@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 75), ("SIGINT", 130)])
def test_a_signal_while_a_command_is_imported_ends_it_quietly(run_python, package, number, code):
    script = "import sys; sys.argv[0] = {}; import {}, os, signal; os.kill(os.getpid(), signal.{})"
    as_module = script.format("'-m'", package, number)  # as python -m does while it looks for the module
    done = run_python("-c", f"{as_module}; sys.exit(9)")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.endswith("the same command again goes on from here\n")
    assert done.stderr.count("\n") == 1


def test_who_imports_a_package_keeps_the_signals(run_python):
    script = "import signal, tfrecords, data_pipeline, trainer; print(repr(signal.getsignal(signal.SIGTERM)))"
    assert "SIG_DFL" in run_python("-c", script).stdout


# ---- output that nobody takes, or that cannot show it

PRINTING = """
import os, sys
from pathlib import Path
from absl import flags
from tfrecords.command import run

_HOW = flags.DEFINE_string("how", "", "What it does.")


def main(_):
    for number in range(20000):
        print("line", number)
    print("to the end", file=sys.stderr)
    Path("outcome").write_text("whole")
    if _HOW.value == "names":
        print("Größe", os.fsdecode(b"b\\xe4d"), flush=True)
    if _HOW.value == "itself":
        os.write(int(os.environ["PIPE"]), b"row")


if __name__ == "__main__":
    run(main)
"""


@pytest.fixture
def printing(start, tmp_path):
    """Starts a command that prints much, and then saves something."""
    (tmp_path / "printing.py").write_text(PRINTING)

    def begin(*arguments, redirected="", **options):
        shell = f'exec "$0" printing.py "$@" {redirected}'
        script = "import os, sys; os.execvp('sh', ['sh', '-c', sys.argv[1], sys.executable, *sys.argv[2:]])"
        return start("-c", script, shell, *arguments, cwd=tmp_path, **options)

    yield begin
    assert (tmp_path / "outcome").read_text() == "whole"


@pytest.mark.parametrize("stderr", ["apart", "in the same pipe"])
def test_a_reader_that_leaves_ends_no_work(printing, stderr):
    process = printing(redirected="2>&1" if stderr == "in the same pipe" else "")
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == ("to the end\n" if stderr == "apart" else "")
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("redirected", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor"), ("<&- >&-", "descriptor")],
)
def test_what_was_printed_in_vain_is_told_when_the_work_is_done(printing, redirected, why):
    process = printing(redirected=redirected)
    said = process.stderr.read().splitlines()
    assert process.wait() == 2
    assert said[0] == "to the end"
    assert said[1].startswith("error: standard output: ")
    assert why in said[1]
    assert len(said) == 2


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full"])
def test_errors_that_nobody_takes_change_nothing(printing, redirected):
    process = printing(redirected=redirected)
    assert process.stdout.read().splitlines()[-1] == "line 19999"
    assert process.wait() == 0


def test_a_pipe_that_the_command_itself_writes_to_ends_it_as_shells_count(printing):
    read, write = os.pipe()
    os.close(read)
    process = printing("--how=itself", env={"PIPE": str(write)}, pass_fds=[write])
    os.close(write)
    out, err = process.communicate()
    assert (process.returncode, err) == (141, "to the end\n")
    assert out.endswith("line 19999\n")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_characters_that_the_output_does_not_have_are_escaped(printing, encoding):
    process = printing("--how=names", env={"PYTHONIOENCODING": encoding})
    shown = {"ascii": "Gr\\xf6\\xdfe", "utf-8": "Größe"}[encoding]
    assert process.stdout.read().splitlines()[-1] == f"{shown} b\\udce4d"
    assert process.wait() == 0


@pytest.mark.parametrize("flag", ["--help", "--helpfull", "--helpshort"])
def test_help_is_no_failure(run_command, folder, flag):
    done = run_command("ending", flag, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Ends as it is told to." in done.stdout
    assert "--how: <well|bad|broken|interrupted>: How it ends." in done.stdout


def test_a_home_folder_is_put_in_the_place_of_a_tilde_in_paths_alone(run_command, folder, tmp_path):
    (tmp_path / "~literal.png").touch()
    arguments = (
        "--folder=~/a b",
        "--regex=~/x",
        "~/c.png",
        "~literal.png",
        "~nobody_here.png",
        "d~.png",
        "~",
    )
    done = run_command("paths", *arguments, cwd=tmp_path, HOME="/the/home", PYTHONPATH=f"{ROOT}:{folder}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "/the/home/a b ~/x /the/home/c.png ~literal.png ~nobody_here.png d~.png /the/home\n"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("~", "/the/home"),
        ("~/x/~/y", "/the/home/x/~/y"),
        ("~root/x", f"{pwd.getpwnam('root').pw_dir}/x"),
        ("a/~/b", "a/~/b"),
        ("./~x", "./~x"),
        ("", ""),
        ("-", "-"),
        ("/dev/stdout", "/dev/stdout"),
        ("s3://bucket/~/x", "s3://bucket/~/x"),
        ("https://host/~user/x", "https://host/~user/x"),
    ],
)
@pytest.mark.parametrize("package", [tfrecords.command, launch.command])
def test_a_path_of_a_flag(monkeypatch, package, given, path):
    monkeypatch.setenv("HOME", "/the/home")
    holder = package.define_path("a_path_of_a_test", None, "A path.")
    try:
        flags.FLAGS["a_path_of_a_test"].parse(given)
        assert flags.FLAGS["a_path_of_a_test"].value == path
    finally:
        delattr(flags.FLAGS, holder.name)


def test_a_home_folder_that_is_not_there_is_bad_input(run_command, folder, tmp_path):
    done = run_command("paths", "--folder=~nobody_here/x", cwd=folder)
    assert done.returncode == 2
    assert "--folder=~nobody_here/x: there is no home folder '~nobody_here'" in done.stderr
    assert "./~nobody_here/x" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_paths_as_flags_of_the_command(run_command, folder):
    assert "\n  --folder: Folder." in run_command("paths", "--help", cwd=folder).stdout
