"""A tiny converted data set and one run trained on it, by the real commands, for all tests of the trainer."""

import fcntl
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `from recomputation import recomputed`

TRAIN_FLAGS = ("--model=cnn", "--epochs=3", "--precision=float32", "--learning_rate=0.003", "--deterministic")


@dataclass(frozen=True)
class Trained:
    """A finished run of `python -m trainer.main`: its folder, its data, its flags, what it printed."""

    folder: Path
    data: Path
    flags: tuple[str, ...]
    output: str


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder that all workers of pytest-xdist share, so that a run is trained once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trainer"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _alone(folder, name):
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def converted(image_folder, shared_folder):
    """The drawn images at 24x32 with train, val and test; read only."""
    from tfrecords.convert.conversion import convert_images
    from tfrecords.convert.options import ConvertOptions

    with _alone(shared_folder, "data"):
        out = shared_folder / "data"
        if not (out / "manifest.json").exists():
            convert_images(
                ConvertOptions(
                    image_folder, out, size=(24, 32), val_fraction=0.2, test_fraction=0.25, workers=1
                )
            )
    return out


@pytest.fixture(scope="session")
def trained(converted, shared_folder, run_command):
    """A finished run; read only, copy its folder to change it."""
    folder, printed = shared_folder / "run", shared_folder / "printed.txt"
    with _alone(shared_folder, "run"):
        if not printed.exists():
            result = run_command("trainer.main", f"--data={converted}", f"--run_dir={folder}", *TRAIN_FLAGS)
            assert result.returncode == 0, result.stderr
            assert result.stderr == ""
            printed.write_text(result.stdout)
    return Trained(folder, converted, TRAIN_FLAGS, printed.read_text())
