"""What all commands of the package share."""

import pytest

from launch.command import LaunchError, parse_environment, split


@pytest.mark.parametrize(
    ("argv", "own", "command"),
    [
        (["x"], ["x"], []),
        (["x", "--"], ["x"], []),
        (["x", "--a", "--", "c", "--", "d"], ["x", "--a"], ["c", "--", "d"]),
        (["x", "--", "c", "--data=~/d"], ["x"], ["c", "--data=~/d"]),
    ],
)
def test_the_first_two_dashes_split(argv, own, command):
    assert split(argv) == (own, command)


def test_an_environment():
    assert parse_environment(["A=1", "b_2=x=y", "C=", "D=e f"]) == (
        ("A", "1"),
        ("b_2", "x=y"),
        ("C", ""),
        ("D", "e f"),
    )


@pytest.mark.parametrize("text", ["A", "=1", "1A=x", "A-B=x", "A B=x", "É=x"])
def test_an_environment_that_is_refused(text):
    with pytest.raises(LaunchError, match=r"NAME=VALUE") as error:
        parse_environment([text])
    assert f"--env={text}:" in str(error.value)


@pytest.mark.parametrize("redirected", ["| head -1", ">&-"])
def test_output_that_nobody_takes(start, redirected):
    shell = f'set -o pipefail; "$0" -m launch.local --help {redirected}'
    script = "import os, sys; os.execvp('bash', ['bash', '-c', sys.argv[1], sys.executable])"
    process = start("-c", script, shell)
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


def test_what_the_output_does_not_have_is_escaped(run_command):
    done = run_command("launch.local", "--processes=1", "Größe", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert "'Gr\\xf6\\xdfe'" in done.stderr
