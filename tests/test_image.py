"""The Dockerfile: linted, and its lines run here in the place of a build, for there is no Docker daemon."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch.kubernetes.manifest import USER_ID

ROOT = Path(__file__).resolve().parent.parent


def instructions():
    """Returns the lines of the Dockerfile as (INSTRUCTION, what follows)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


INSTRUCTIONS = instructions()
COPIED = [source for name, words in INSTRUCTIONS if name == "COPY" for source in words.split()[:-1]]


def last(name):
    return [words for found, words in INSTRUCTIONS if found == name][-1]


def test_hadolint_finds_nothing():
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_its_python_is_one_of_ours():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    version = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-\w+", last("FROM"))[1]
    assert f"Programming Language :: Python :: {version}" in parser["metadata"]["classifiers"]


def test_it_runs_as_a_user_that_kubernetes_takes_for_no_root():
    assert last("USER") == f"{USER_ID}:{USER_ID}"


def test_nothing_but_what_is_copied_goes_to_the_builder():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    assert sorted(line[1:] for line in lines if line[0] == "!") == sorted(COPIED)


@pytest.mark.parametrize(("extra", "asked"), [("", "."), ("gpu", ".[gpu]"), ("gpu,dicom", ".[gpu,dicom]")])
def test_extras_are_a_build_argument(extra, asked):
    (word,) = {
        found for name, words in INSTRUCTIONS for found in re.findall(r'"\.\$.*?"', words) if name == "RUN"
    }
    command = ["sh", "-c", f"printf %s {word}"]
    assert (
        subprocess.run(command, env={"EXTRA": extra}, capture_output=True, text=True, check=True).stdout
        == asked
    )
    assert ("ARG", "EXTRA=") in INSTRUCTIONS


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with an environment that the Dockerfile's pip lines have filled, from what it copies."""
    place = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    folder = place / "src"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PATH": f"{place / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", "EXTRA": ""}
    environment["PIP_NO_COMPILE"] = "1"  # half of the files, and of the time to write and remove them
    for name, words in INSTRUCTIONS:
        if name == "COPY":
            *sources, to = words.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, folder / to, dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / source, folder / to)
        elif name == "RUN" and "pip install" in words:
            done = subprocess.run(
                ["sh", "-c", words], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield place
    shutil.rmtree(place)  # gigabytes


@pytest.mark.image
@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["python", "-m", "trainer.main", "--strategy=mirrored", "--model=mlp", "--epochs=1"], "report:"),
        (json.loads(last("CMD")), "--strategy"),
        (["python", "-m", "launch.worker", "--help"], "--join_minutes"),
        (["python", "-m", "tfrecords.convert", "--help"], "--images"),
        (["python", "-m", "pip", "check"], "No broken requirements"),
        (["python", "-c", "import tensorflow, trainer.training; print('imported')"], "imported"),
        (["python", "-m", "launch.kubernetes", "--image=a:1", "--dry_run", "--", "x"], "kind: Job"),
    ],
    ids=lambda value: shlex.join(value) if isinstance(value, list) else "",
)
def test_what_it_installs_runs(built, tmp_path, command, said):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    program = built / "venv" / "bin" / command[0]
    done = subprocess.run(
        [program, *command[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.mark.image
@pytest.mark.slow
def test_without_an_extra_it_has_no_library_of_cuda(built):
    command = [built / "venv" / "bin" / "python", "-m", "pip", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "tensorflow" in listed
    assert "nvidia" not in listed
