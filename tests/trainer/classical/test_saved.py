import sys

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tfrecords.errors import InputError
from trainer.classical.features import area_means
from trainer.classical.forest import Forest
from trainer.classical.saved import Fitted, SavedModel, scores

SHAPE = (8, 10, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (90, *SHAPE), np.uint8)
FEATURES = area_means(IMAGES, 5)
LABELS = {2: (FEATURES[:, 0] > 0.5).astype(int), 3: np.digitize(FEATURES[:, 0], (0.45, 0.55))}


def fitted(kind, classes):
    labels = LABELS[classes]
    if kind == "forest":
        forest = RandomForestClassifier(5, random_state=0).fit(FEATURES, labels)
        return Fitted(Forest.of(forest), None, 5, SHAPE, classes)
    if kind == "logistic":
        pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(FEATURES, labels)
        return Fitted(pipeline, None, 5, SHAPE, classes)
    pipeline = make_pipeline(StandardScaler(), LinearSVC()).fit(FEATURES, labels)
    calibration = LogisticRegression().fit(scores(pipeline, FEATURES), labels)
    return Fitted(pipeline, calibration, 5, SHAPE, classes)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["forest", "logistic", "svm"])
def test_a_model_that_is_loaded_gives_the_same_to_the_bit(kind, classes, tmp_path):
    model = fitted(kind, classes)
    model.save(tmp_path / "model.skops")
    again = Fitted.load(tmp_path / "model.skops")
    given = FEATURES.copy()
    found = again.probabilities(given)
    assert np.array_equal(found, model.probabilities(FEATURES))
    assert np.array_equal(given, FEATURES)  # it is not written to
    assert (found.shape, found.dtype) == ((90, classes), np.float64)
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert (again.pixels, again.image_shape, again.classes) == (5, SHAPE, classes)
    assert skops.io.get_untrusted_types(file=tmp_path / "model.skops") == []


@pytest.mark.parametrize("kind", ["forest", "logistic", "svm"])
def test_a_part_of_a_batch_gives_what_the_batch_gives(kind, tmp_path):
    fitted(kind, 2).save(tmp_path / "model.skops")
    model = SavedModel(tmp_path / "model.skops", 32)
    whole = model.probabilities(IMAGES[:32])
    assert whole == pytest.approx(fitted(kind, 2).probabilities(FEATURES[:32]), abs=1e-6)
    for count in (1, 5, 31):
        assert np.array_equal(model.probabilities(IMAGES[:count]), whole[:count])


def test_a_tree_of_scikit_learn_is_not_trusted(tmp_path):
    """It can be made to read beyond its memory, so that nothing but its arrays is kept."""
    forest = RandomForestClassifier(2, random_state=0).fit(FEATURES, LABELS[2])
    path = tmp_path / "model.skops"
    Fitted(forest, None, 5, SHAPE, 2).save(path)
    with pytest.raises(InputError, match=r"model\.skops: .*_tree\.Tree"):
        Fitted.load(path)


class Strange:
    pass


VALUES = {
    "pipeline": None,
    "forest": None,
    "calibration": None,
    "pixels": 5,
    "image_shape": [8, 10, 1],
    "classes": 2,
}


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no zip"),
        lambda path: skops.io.dump({"pipeline": Strange()}, path),
        lambda path: skops.io.dump({"pixels": 5}, path),
        lambda path: skops.io.dump([1, 2], path),
        lambda path: skops.io.dump(VALUES | {"pipeline": StandardScaler()}, path),
        lambda path: skops.io.dump(VALUES | {"forest": {"left": 1}}, path),
    ],
)
def test_what_is_no_model_is_refused_by_name(write, tmp_path):
    write(tmp_path / "model.skops")
    with pytest.raises(InputError, match=r"model\.skops: "):
        Fitted.load(tmp_path / "model.skops")


def test_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    fitted("logistic", 2).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.skops: "):
        Fitted.load(path)


@pytest.mark.parametrize("kind", ["forest", "svm"])
def test_a_changed_byte_is_refused_or_changes_nothing(kind, tmp_path):
    path = tmp_path / "model.skops"
    fitted(kind, 2).save(path)
    content, expected = path.read_bytes(), fitted(kind, 2).probabilities(FEATURES)
    refused = 0
    for place in np.random.default_rng(0).integers(0, len(content), 60):
        harmed = bytearray(content)
        harmed[place] ^= 0x55
        path.write_bytes(harmed)
        try:
            again = Fitted.load(path)
        except InputError:
            refused += 1
        else:  # a date, or another field of the archive that nobody reads
            assert np.array_equal(again.probabilities(FEATURES), expected)
    assert refused > 30


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"model\.skops: not there"):
        Fitted.load(tmp_path / "model.skops")


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops", None)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    for call in (lambda: Fitted.load(tmp_path / "m"), lambda: fitted("forest", 2).save(tmp_path / "m")):
        with pytest.raises(InputError, match=r"pip install 'shardlight\[baseline\]'"):
            call()
