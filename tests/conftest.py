"""What the tests of all packages share: a small drawn image folder, real processes, the real images."""

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

_KINDS = ((".jpeg", "JPEG", "RGB"), (".png", "PNG", "L"), (".bmp", "BMP", "RGB"), (".jpeg", "JPEG", "L"))


@pytest.fixture(autouse=True)
def garbage_stays():
    """No garbage is collected while a test runs.

    An abandoned iterator of tf.data ends only when its call of Python does: if that call itself collected
    it, both would wait for ever. Tests abandon many, with the errors they expect.
    """
    gc.disable()
    yield
    gc.enable()


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


@pytest.fixture(scope="session")
def command_environment():
    """The environment for a process of ours: the project is found where it is not installed."""
    elsewhere = [path for path in sys.path if Path(path).resolve() != ROOT]
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="2")
    if PathFinder.find_spec("tfrecords", elsewhere) is None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return environment


@pytest.fixture(scope="session")
def run_command(tmp_path_factory, command_environment):
    """Runs `python -m module arguments` as a process of its own, in an empty folder, to its end."""

    def run(
        module: str,
        *arguments: object,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
        timeout: float = 300,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, sys.executable, "-m", module, *map(str, arguments)],
            cwd=cwd or tmp_path_factory.mktemp("cwd"),
            env=command_environment | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


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
