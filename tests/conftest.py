"""What the tests of all packages share: a small drawn image folder, real processes, the real images."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before a test imports TensorFlow

ROOT = Path(__file__).resolve().parent.parent

# A child has the signals of a fresh login, whatever its parent ignores: a shell gives a job in the background
# an ignored SIGINT, and every process below it inherits that. And it ends with its parent, so that a hanging
# test leaves nothing behind.
CHILD = ("env", "--default-signal", "setpriv", "--pdeathsig", "KILL")

_PATIENCE = 600  # seconds to wait for what a busy machine does in a few; a hang ends by pytest's own limit

_KINDS = ((".jpeg", "JPEG", "RGB"), (".png", "PNG", "L"), (".bmp", "BMP", "RGB"), (".jpeg", "JPEG", "L"))


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """60 drawn images named as the chest X-rays are; read only, copy it to change it.

    NORMAL has 24 images in 12 groups, PNEUMONIA 36 in 12; JPEG, PNG and BMP of 24x24 to 40x32 pixels.
    """
    root = tmp_path_factory.mktemp("drawn") / "chest_xray"
    names = [f"NORMAL/IM-{group:04d}-{image:04d}" for group in range(6) for image in range(2)]
    names += [f"NORMAL/NORMAL2-IM-{group:04d}-{image:04d}" for group in range(6) for image in range(2)]
    names += [
        f"PNEUMONIA/person{group}_{series}_{image}"
        for series in ("bacteria", "virus")
        for group in range(6)
        for image in range(3)
    ]
    for number, name in enumerate(names):
        suffix, kind, mode = _KINDS[number % len(_KINDS)]
        path = root / (name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        _draw(number, bright=name.startswith("PNEUMONIA")).convert(mode).save(path, kind)
    return root


def _draw(number: int, *, bright: bool) -> Image.Image:
    random = np.random.default_rng(number)
    width, height = int(random.integers(24, 41)), int(random.integers(24, 33))
    rows, columns = np.mgrid[0:height, 0:width]
    body = 140 * np.exp(-(((columns / width - 0.5) / 0.35) ** 2) - ((rows / height - 0.5) / 0.4) ** 2)
    spot = 80 * bright * np.exp(-((columns - width / 3) ** 2 + (rows - height / 2) ** 2) / 20)
    noise = random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(20 + (body + spot)[..., None] + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine without fonts, but for those that are a part of matplotlib."""
    from matplotlib import font_manager

    from tfrecords.text import fonts

    caches = (fonts._font_with, fonts._installed, fonts._letters)
    for each in caches:
        each.cache_clear()
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    yield
    for each in caches:
        each.cache_clear()


@pytest.fixture
def installed(no_fonts, tmp_path, monkeypatch):
    """`installed(letters, name)` installs a font in which each letter is a box, and returns its file."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    there = []

    def install(letters: str, name: str) -> Path:
        pen = TTGlyphPen(None)
        pen.moveTo((100, 0))
        for corner in ((100, 700), (900, 700), (900, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs = [".notdef", *(f"uni{ord(letter):04X}" for letter in sorted(set(letters)))]
        font = FontBuilder(1000, isTTF=True)
        font.setupGlyphOrder(glyphs)
        font.setupCharacterMap({int(glyph[3:], 16): glyph for glyph in glyphs[1:]})
        font.setupGlyf(dict.fromkeys(glyphs, pen.glyph()))
        font.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 100)))
        font.setupHorizontalHeader(ascent=800, descent=-200)
        font.setupNameTable({"familyName": name, "styleName": "Regular"})
        font.setupOS2()
        font.setupPost()
        path = tmp_path / f"{name.replace(' ', '')}.ttf"
        font.save(path)
        there.append(str(path))
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(there))
        return path

    return install


@pytest.fixture(scope="session")
def command_environment():
    """The environment for a process of ours: the project is found where it is not installed."""
    elsewhere = [path for path in sys.path if Path(path).resolve() != ROOT]
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2")
    if PathFinder.find_spec("tfrecords", elsewhere) is None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return environment


@pytest.fixture(scope="session")
def run_python(tmp_path_factory, command_environment):
    """Runs `python arguments` as a process of its own, in an empty folder, to its end."""

    def run(
        *arguments: object, cwd: Path | None = None, prefix: Sequence[str] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CHILD, *prefix, sys.executable, *map(str, arguments)],
            cwd=cwd or tmp_path_factory.mktemp("cwd"),
            env=command_environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def run_command(run_python):
    """Runs `python -m module arguments` as `run_python` does."""

    def run(module: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_python("-m", module, *arguments, **options)

    return run


@contextmanager
def _started(environment: dict[str, str], cwd: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": cwd, "text": True}
        command = [*CHILD, sys.executable, *map(str, arguments)]
        processes.append(subprocess.Popen(command, env=environment | (env or {}), **(pipes | options)))
        return processes[-1]

    try:
        yield start
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                if os.getpgid(process.pid) == process.pid:  # a session of its own, with what it started
                    os.killpg(process.pid, signal.SIGKILL)
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    with suppress(BrokenPipeError):
                        pipe.close()


@pytest.fixture
def start(command_environment, tmp_path):
    """Starts `python arguments` and goes on; what still runs when the test ends is killed, and pipes closed.

    `env` is added to the environment; other options are those of `subprocess.Popen`, with pipes for stdout
    and stderr, text, and the test's folder as defaults.
    """
    with _started(command_environment, tmp_path) as begin:
        yield begin


@pytest.fixture(scope="module")
def start_for_module(command_environment, tmp_path_factory):
    """Does what `start` does, for the fixtures of a module."""
    with _started(command_environment, tmp_path_factory.mktemp("cwd")) as begin:
        yield begin


# In a message: a flag with its value, what is quoted, a call of a command, a path or another name that is
# no English word (it has a point, a slash, an underline, a bracket, capitals), and a number.
_FACT = re.compile(
    r"""--\w+(?:=[^\s;,:]+)? | '[^'\n]*' | "[^"\n]*" | python\ -m\ \S+
    | [\w^~.+-]*[/_\\]\S* | \w+\.\w\S* | \b[A-Z]{2,}\w*\b | \d[\w.,%]*""",
    re.VERBOSE,
)


@pytest.fixture(scope="session")
def facts():
    """Makes a pattern for a message that says the same: names, values and the fix as here, in other words.

    So the words of a message can be mended without its tests.
    """

    def pattern(message: str) -> str:
        found = [fact.rstrip(".,;:)]") for fact in _FACT.findall(message)]
        assert found, f"no name and no value in {message!r}"
        # A fact that is said twice must be there twice.
        wanted = (f"(?=(?:.*{re.escape(fact)}){{{found.count(fact)}}})" for fact in dict.fromkeys(found))
        return rf"(?s)\A(?!.*Traceback){''.join(wanted)}"

    return pattern


@pytest.fixture(scope="session")
def wait_until():
    """Waits until a condition holds; the test fails with `what` if it never does."""

    def wait(condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < end, f"never came: {what}"
            time.sleep(0.002)

    return wait


@pytest.fixture(scope="session")
def waits_for_lock():
    """Says whether a process waits for a lock on a file that another one holds, as the system sees it."""

    def waits(process: subprocess.Popen[str]) -> bool:
        assert process.poll() is None, "it has ended without waiting"
        words = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return any(line[1] == "->" and line[5] == str(process.pid) for line in words)

    return waits


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own, and a function that mounts it anew with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")

    def remount(options):
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)

    yield folder, remount
    subprocess.run(["umount", folder], check=True)


def pytest_collection_modifyitems(items):
    """Long files first, so that no worker of pytest-xdist is left alone with one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_runtest_setup(item):
    if item.get_closest_marker("not_root") and os.geteuid() == 0:
        pytest.skip("root may do what this test sees refused; .ci/run runs it as another user")


def pytest_sessionfinish(session):
    """With NO_SKIPS set a skipped test fails the run: the environment lacks what it is there for."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def real_images():
    """The folder of the real chest X-rays; the test is skipped where they are not."""
    default = ROOT.parent / "shared" / "data" / "chest_xray" / "train"
    folder = Path(os.environ.get("CHEST_XRAY_DIR") or default)
    if not folder.is_dir():
        pytest.skip(f"no chest X-ray images in {folder}; CHEST_XRAY_DIR names their folder")
    return folder
