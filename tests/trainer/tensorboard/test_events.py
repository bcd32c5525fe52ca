import os
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.util import tensor_util

from tfrecords.errors import InputError
from trainer.tensorboard.events import ScalarFile, drop_points, event_files, read_events, write_text


def shown(folder):
    """Tag -> [(step, value)], as TensorBoard reads them."""
    found = EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()
    return {
        tag: [(each.step, tensor_util.make_ndarray(each.tensor_proto).item()) for each in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }


def written(folder, *steps):
    file = ScalarFile(folder)
    for step in steps:
        file.write(step, {"loss": step / 2, "steps/accuracy": 1.0})
    file.close()


def test_tensorboard_reads_scalars_as_they_are_written(tmp_path):
    file = ScalarFile(tmp_path / "train")
    for step in (0, 7):
        file.write(step, {"loss": 0.5, "steps/accuracy": 0.25})
        assert shown(tmp_path / "train")["loss"][-1] == (step, 0.5)  # before the file is closed
    file.close()
    assert shown(tmp_path / "train") == {
        "loss": [(0, 0.5), (7, 0.5)],
        "steps/accuracy": [(0, 0.25), (7, 0.25)],
    }


def test_a_file_without_points_is_not_made(tmp_path):
    ScalarFile(tmp_path).close()
    assert not event_files(tmp_path)


def test_points_are_dropped_one_by_one(tmp_path):
    written(tmp_path, 1, 2, 3)
    written(tmp_path, 4)
    before = event_files(tmp_path)
    drop_points(tmp_path, lambda tag, step: step <= 2 or (tag == "loss" and step == 3))
    assert shown(tmp_path) == {
        "loss": [(1, 0.5), (2, 1.0), (3, 1.5)],
        "steps/accuracy": [(1, 1.0), (2, 1.0)],
    }
    assert event_files(tmp_path) == before[:1]  # nothing is left of the other


@pytest.mark.parametrize("tail", [b"", b"cut", b"\0" * 40])
def test_only_what_changes_is_written_anew(tmp_path, tail):
    written(tmp_path, 1, 2)
    (path,) = event_files(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content + tail)
    number = path.stat().st_ino
    drop_points(tmp_path, lambda tag, step: True)
    assert path.read_bytes() == content
    assert (path.stat().st_ino == number) == (not tail)


def test_a_folder_that_is_not_there_has_nothing_to_drop(tmp_path):
    drop_points(tmp_path / "none", lambda tag, step: False)
    assert not list(tmp_path.iterdir())


def test_a_text_is_there_once_and_is_the_last(tmp_path):
    for text in ("| a |", "| a |", "| b |"):
        write_text(tmp_path, "config", text)
    assert shown(tmp_path)["config"] == [(0, b"| b |")]
    assert len(event_files(tmp_path)) == 1


@pytest.mark.not_root
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    written(tmp_path, 1)
    tmp_path.chmod(0o500)
    for write in (
        lambda: write_text(tmp_path, "config", "text"),
        lambda: drop_points(tmp_path, lambda tag, step: False),
        lambda: written(tmp_path, 2),
    ):
        with pytest.raises(InputError, match=str(tmp_path)):
            write()


def test_a_damaged_file_is_read_up_to_its_damage(tmp_path):
    written(tmp_path, 1, 2)
    (path,) = event_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-3])
    assert [event.step for event in read_events(path) if event.summary.value] == [1]


@pytest.mark.slow
def test_tensorflow_is_not_imported(tmp_path):
    code = (
        "import sys, pathlib; folder = pathlib.Path(sys.argv[1]);"
        "from trainer.config import TrainConfig; from trainer.tensorboard.comparison import write_run;"
        "from trainer.tensorboard.events import *; from trainer.tensorboard.hparams import write_session_end;"
        "file = ScalarFile(folder); file.write(1, {'a': 1.0}); file.close(); write_text(folder, 'b', 'c');"
        "write_run(folder, TrainConfig('', ''), 'd', 'float32'); write_session_end(folder, True);"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
    assert len(event_files(tmp_path)) == 5
