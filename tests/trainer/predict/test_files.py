import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.sources.class_folders import image_files
from trainer.predict.files import Answer, predict_files, write_csv
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
    files, run = image_files([image_folder])[:5], Run.load(folder)
    for threshold, name in ((0.0, "PNEUMONIA"), (1.1, "NORMAL")):
        run.save_result(replace(run.result(), threshold=threshold))
        assert {answer.predicted for answer in predict_files(Run.load(folder), files)} == {name}
    run.save_result(replace(run.result(), threshold=None))
    with pytest.raises(InputError, match=rf"python -m trainer.evaluate --run_dir={folder}"):
        next(predict_files(Run.load(folder), files))


def test_a_probability_that_equals_the_threshold_is_the_finding(trained, image_folder, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    (file,) = image_files([image_folder])[:1]
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
    files = image_files([image_folder])[::-1][:35]  # more than a batch
    together = list(predict_files(run, files))
    assert [answer.file for answer in together] == files
    for number in (0, 31, 32, 34):
        (alone,) = predict_files(run, [files[number]])
        assert np.array_equal(alone.probabilities, together[number].probabilities)


def test_an_image_that_cannot_be_decoded_is_named(run, image_folder, tmp_path):
    whole = image_files([image_folder])[0]
    bad = tmp_path / "half.jpeg"
    bad.write_bytes(whole.read_bytes()[:300])
    with pytest.raises(InputError) as error:
        list(predict_files(run, [whole, bad]))
    assert str(error.value).startswith(f"{bad}: ")
    assert str(error.value).endswith("; remove it from the call or repair it")


def test_dicom_files_are_answered_and_named_by_position_in_errors(run, image_folder, tmp_path, facts):
    pydicom_files = pytest.importorskip("pydicom.data", reason="the dicom extra is not installed")
    data = Path(pydicom_files.get_testdata_file("CT_small.dcm", download=False)).read_bytes()
    first = image_files([image_folder])[0]
    whole, bad = tmp_path / "Doe^Jane 1.dcm", tmp_path / "Doe^Jane 2.dcm"
    whole.write_bytes(data)
    answers = list(predict_files(run, [first, whole]))
    assert [answer.file for answer in answers] == [first, whole]
    assert answers[1].probabilities.sum() == pytest.approx(1, abs=1e-6)
    bad.write_bytes(data[:-1000])
    with pytest.raises(InputError) as error:
        list(predict_files(run, [first, whole, bad]))
    assert re.search(
        facts(
            "file 3 of 3, a DICOM file (folders are read in sorted order): a DICOM file whose pixel data is "
            "damaged or cut; remove it from the call or repair it"
        ),
        str(error.value),
    )


@pytest.mark.parametrize("make", [lambda path: path.write_text("no image"), lambda path: None])
def test_what_is_no_image_is_named_before_anything_is_predicted(run, tmp_path, make):
    make(tmp_path / "notes.txt")
    with pytest.raises(InputError, match=r"notes\.txt"):
        next(predict_files(run, [tmp_path / "notes.txt"]))


def test_a_run_without_a_model_is_named(trained, tmp_path, image_folder):
    shutil.copy(trained.folder / "config.json", tmp_path)
    with pytest.raises(InputError, match=r"model\.keras: not there yet"):
        next(predict_files(Run.load(tmp_path), [image_folder]))


def test_the_table_has_full_precision_and_any_name(tmp_path):
    row = np.array([1 / 3, 2 / 3])
    answers = [Answer(Path('a,"b".png'), "B", row), Answer(Path("caf\udce9.png"), "B", row)]
    write_csv(tmp_path / "out.csv", ("A", "B"), answers)
    assert (tmp_path / "out.csv").read_bytes() == (
        b"file,predicted,probability_A,probability_B\n"
        b'"a,""b"".png",B,0.3333333333333333,0.6666666666666666\n'
        b"caf\xe9.png,B,0.3333333333333333,0.6666666666666666\n"
    )


def test_a_table_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"out\.csv: cannot be written: No such file or directory"):
        write_csv(tmp_path / "none" / "out.csv", ("A",), [])
    assert list(tmp_path.iterdir()) == []
