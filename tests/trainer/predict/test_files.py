import csv
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from tfrecords.errors import InputError
from trainer.predict.files import LeftOut, Prediction, Skipped, predict_files, predict_listed
from trainer.predict.listing import ListedFile
from trainer.run import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(trained):
    return Run.load(trained.folder)


def test_files_get_the_answers_that_evaluation_gave_their_records(run, image_folder):
    with (run.report("test") / "predictions.csv").open() as file:
        evaluated = {row["id"]: row for row in csv.DictReader(file)}
    answers = {
        answer.file.relative_to(image_folder).as_posix(): answer
        for answer in predict_files(run, [image_folder])
    }
    assert len(answers) == 60
    assert evaluated.keys() <= answers.keys()
    for name, row in evaluated.items():
        expected = [float(row["probability_NORMAL"]), float(row["probability_PNEUMONIA"])]
        assert answers[name].probabilities.tolist() == pytest.approx(expected, abs=1e-6)
        assert answers[name].predicted == row["predicted"]
    assert len({answer.probabilities[0] for answer in answers.values()}) > 30


def test_the_class_follows_from_the_threshold_of_the_report(trained, image_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    files, run = sorted(image_folder.glob("*/*"))[:5], Run.load(folder)
    for threshold, name in ((0.0, "PNEUMONIA"), (1.1, "NORMAL")):
        run.save_result(replace(run.result(), threshold=threshold))
        assert {answer.predicted for answer in predict_files(Run.load(folder), files)} == {name}
    run.save_result(replace(run.result(), threshold=None))
    with pytest.raises(InputError, match=rf"python -m trainer.evaluate --run_dir={folder}"):
        next(predict_files(Run.load(folder), files))


def test_a_probability_that_equals_the_threshold_is_the_finding(trained, image_folder, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    (file,) = sorted(image_folder.glob("*/*"))[:1]
    (answer,) = predict_files(Run.load(folder), [file])
    score, run = float(answer.probabilities[1]), Run.load(folder)
    found = []
    for threshold in (np.nextafter(score, 0), score, np.nextafter(score, 1)):
        run.save_result(replace(run.result(), threshold=float(threshold)))
        (answer,) = predict_files(Run.load(folder), [file])
        found.append(answer.predicted)
    assert found == ["PNEUMONIA", "PNEUMONIA", "NORMAL"]


@pytest.mark.parametrize("resize", ["pad", "crop"])
def test_images_are_resized_and_scaled_as_the_data_were(run, tmp_path, resize):
    """The answer is that for a picture which is resized and scaled by hand and needs neither."""
    values = np.random.default_rng(0).integers(0, 4096, (16, 32)).astype(np.uint16)
    values = values.repeat(2, axis=0).repeat(2, axis=1) if resize == "crop" else values
    Image.fromarray(values).save(tmp_path / "raw.png")
    grey = np.floor(values.astype(float) * 255 / 4095 + 0.5).astype(np.uint8)
    by_hand = np.zeros((24, 32), np.uint8)
    if resize == "pad":  # 16x32 in 24x32
        by_hand[4:20] = grey
    else:  # of 32x64 the middle of the aspect ratio 3:4
        middle = (32 / 3, 0, 160 / 3, 32)
        by_hand = np.asarray(Image.fromarray(grey).resize((32, 24), Image.Resampling.BILINEAR, middle))
    Image.fromarray(by_hand).save(tmp_path / "by_hand.png")
    data = replace(run.data, resize=resize, value_range="0:4095")
    (found,) = predict_files(replace(run, data=data), [tmp_path / "raw.png"])
    (expected,) = predict_files(run, [tmp_path / "by_hand.png"])
    (stretched,) = predict_files(run, [tmp_path / "raw.png"])
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert np.abs(found.probabilities - stretched.probabilities).max() > 1e-3


def test_files_are_answered_in_order_each_as_if_it_were_alone(run, image_folder):
    files = sorted(image_folder.glob("*/*"))[::-1][:35]  # more than a batch
    together = list(predict_files(run, files))
    assert [answer.file for answer in together] == files
    for number in (0, 31, 32, 34):
        (alone,) = predict_files(run, [files[number]])
        assert np.array_equal(alone.probabilities, together[number].probabilities)


def test_files_that_cannot_be_used_are_named_in_their_place(run, image_folder, tmp_path):
    whole = sorted(image_folder.glob("*/*"))[:3]
    (tmp_path / "half.jpeg").write_bytes(whole[0].read_bytes()[:300])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty.png").touch()
    bad = [tmp_path / name for name in ("half.jpeg", "notes.txt", "empty.png", "gone.png")]
    bad.append(tmp_path / "empty")
    bad[-1].mkdir()
    alone = list(predict_files(run, whole))
    found = list(predict_files(run, [bad[0], whole[0], bad[1], *whole[1:], *bad[2:]]))
    kinds = [type(one) for one in found]
    assert kinds == [LeftOut, Prediction, LeftOut, Prediction, Prediction, LeftOut, LeftOut, LeftOut]
    left_out = [one for one in found if isinstance(one, LeftOut)]
    assert [one.file for one in left_out] == bad
    assert [one.shown for one in left_out] == [str(path) for path in bad]
    for one, reason in zip(
        left_out,
        ("cannot be decoded", "not an image", "is empty", "No such file", "a folder without files"),
        strict=True,
    ):
        assert reason in one.reason
    answers = [one for one in found if isinstance(one, Prediction)]
    for one, other in zip(answers, alone, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)


def test_what_stands_beside_images_in_a_folder_is_passed_over(run, image_folder, tmp_path):
    whole = sorted(image_folder.glob("*/*"))[0]
    for name, data in {
        "README": b"What this is.\n",
        "a.json": b"{}",
        "a.png": whole.read_bytes(),
        "classes.txt": b"",
        "pointer.jpeg": b"version https://git-lfs.github.com/spec/v1\n",
        "scan": b"\0\1\2\3",
    }.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe.png")  # which nobody writes: opening it would wait for ever
    found = [(type(one), one.file.name) for one in predict_files(run, [tmp_path])]
    assert sorted(found, key=lambda one: one[1]) == [
        (Skipped, "README"),
        (Skipped, "a.json"),
        (Prediction, "a.png"),
        (Skipped, "classes.txt"),
        (LeftOut, "pointer.jpeg"),
        (LeftOut, "scan"),
    ]


def test_many_that_are_left_out_do_not_wait_for_a_full_batch(run, image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.predict.files._MOST_WAITING", 3)
    whole, gone = sorted(image_folder.glob("*/*"))[0], tmp_path / "gone.png"
    looked_at = []

    def each():
        for path in [whole, *[gone] * 7]:
            looked_at.append(path)
            yield ListedFile(str(path), True)

    class Files(list):
        __iter__ = lambda _: each()  # noqa: E731

    outcomes = predict_listed(run, Files([None] * 8))
    assert isinstance(next(outcomes), Prediction)
    assert len(looked_at) == 3
    assert len(list(outcomes)) == 7


def test_a_pipe_is_read_once(run, image_folder, tmp_path):
    whole = sorted(image_folder.glob("*/*"))[0]
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=lambda: (tmp_path / "pipe").write_bytes(whole.read_bytes()))
    writer.start()
    piped, named = predict_files(run, [tmp_path / "pipe", whole])
    writer.join()
    assert np.array_equal(piped.probabilities, named.probabilities)


def test_dicom_files_are_answered_and_called_by_position_where_left_out(run, image_folder, tmp_path, facts):
    pydicom_files = pytest.importorskip("pydicom.data", reason="the dicom extra is not installed")
    data = Path(pydicom_files.get_testdata_file("CT_small.dcm", download=False)).read_bytes()
    first = sorted(image_folder.glob("*/*"))[0]
    whole, bad, cut = (tmp_path / f"Doe^Jane {number}.dcm" for number in (1, 2, 3))
    whole.write_bytes(data)
    bad.write_bytes(data[:-1000])
    cut.write_bytes(b"Doe^Jane")
    found = list(predict_files(run, [first, whole, bad, cut]))
    assert [one.file for one in found] == [first, whole, bad, cut]
    assert found[1].probabilities.sum() == pytest.approx(1, abs=1e-6)
    said = [f"{one.shown}: {one.reason}" for one in found[2:]]
    assert re.search(
        facts(
            "file 3 of 4, a DICOM file (folders are read in sorted order): a DICOM file whose pixel data is "
            "damaged or cut"
        ),
        said[0],
    )
    assert said[1].startswith("file 4 of 4, a DICOM file")
    assert "Doe" not in "".join(said)


def test_a_run_without_a_model_is_named(trained, tmp_path, image_folder):
    shutil.copy(trained.folder / "config.json", tmp_path)
    with pytest.raises(InputError, match=r"model\.keras: does not exist yet"):
        next(predict_files(Run.load(tmp_path), [image_folder]))
