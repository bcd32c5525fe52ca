import pytest

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("commands")
    (path / "ending.py").write_text(SCRIPT.replace("POSITIONAL", '""'))
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
