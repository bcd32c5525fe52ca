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
