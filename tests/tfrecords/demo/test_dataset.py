"""The demo data: reproducible, named as real data, not told apart by brightness, made once."""

import fcntl
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from tfrecords.demo import dataset as demo
from tfrecords.demo import phantom
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.sources.groups import CHEST_XRAY_GROUP

NAME = {
    "NORMAL": re.compile(r"IM-\d{4}-\d{4}\.png"),
    "PNEUMONIA": re.compile(r"person[1-9]\d*_bacteria_[1-9]\d*\.png"),
}


PATIENTS = 40


def read(directory: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(directory).as_posix(): np.asarray(Image.open(path))
        for path in sorted(directory.rglob("*.png"))
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo") / "images"
    count = demo.write_images(directory, patients=PATIENTS)
    return directory, count


@pytest.fixture(scope="module")
def images(folder):
    return read(folder[0])


def test_every_image_is_counted_and_is_a_grayscale_png(folder, images):
    directory, count = folder
    assert count == len(images) == sum(path.is_file() for path in directory.rglob("*"))
    for path in directory.rglob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (phantom.SIDE, phantom.SIDE))


def test_names_are_those_of_the_chest_x_ray_data(images):
    for name in images:
        kind, file = name.split("/")
        assert NAME[kind].fullmatch(file), name


def test_a_patient_has_several_images_of_one_class(images):
    groups: dict[str, list[str]] = {}
    for name in images:
        kind, file = name.split("/")
        groups.setdefault(re.search(CHEST_XRAY_GROUP, file)[1], []).append(kind)
    assert len(groups) == PATIENTS
    least, most = demo.IMAGES_PER_PATIENT
    assert {len(kinds) for kinds in groups.values()} == set(range(least, most + 1))
    assert all(len(set(kinds)) == 1 for kinds in groups.values())
    numbers = [int(re.search(r"\d+", group)[0]) for group in groups]
    assert sorted(numbers) == list(range(1, PATIENTS + 1))  # no number is in both classes
    normal = sum(kinds[0] == "NORMAL" for kinds in groups.values())
    assert normal == 0.4 * PATIENTS


@pytest.mark.slow
def test_same_seed_same_pixels(images, tmp_path):
    demo.write_images(tmp_path, patients=8)
    again = read(tmp_path)
    first = {name: image for name, image in images.items() if int(re.search(r"\d+", name)[0]) <= 8}
    assert again.keys() == first.keys()
    for name, image in again.items():
        np.testing.assert_array_equal(image, first[name], err_msg=name)


@pytest.mark.slow
def test_another_seed_draws_other_patients(images, tmp_path):
    demo.write_images(tmp_path, patients=8, seed=1)
    shared = read(tmp_path).keys() & images.keys()
    assert shared
    for name in shared:
        image = np.asarray(Image.open(tmp_path / name))
        assert np.abs(image.astype(int) - images[name]).mean() > 5, name


def test_no_two_images_are_alike(images):
    assert len({image.tobytes() for image in images.values()}) == len(images)


@pytest.mark.slow
def test_images_of_a_patient_are_closer_than_those_of_others():
    # Over many films of each, so that pose and exposure average out and the anatomy is left.
    def film(anatomy: phantom.Anatomy, first: int) -> np.ndarray:
        return np.mean(
            [
                phantom.draw(np.random.default_rng(seed), anatomy, opacities=False)
                for seed in range(first, first + 12)
            ],
            axis=0,
        )

    one, other = (phantom.Anatomy.draw(np.random.default_rng(seed)) for seed in (1, 2))
    within = np.abs(film(one, 0) - film(one, 100)).mean()
    between = np.abs(film(one, 0) - film(other, 100)).mean()
    assert within < between


def test_brightness_does_not_tell_the_classes_apart(images):
    sick = [name.startswith("PNEUMONIA/") for name in images]
    for measure in (np.mean, np.std, np.median):
        area = roc_auc_score(sick, [measure(image) for image in images.values()])
        assert 0.35 < area < 0.65, measure.__name__


def test_exposure_and_pose_vary(images):
    means = np.array([image.mean() for image in images.values()])
    assert means.std() > 8
    healthy = [image for name, image in images.items() if name.startswith("NORMAL/")]
    assert np.std(healthy, axis=0)[40:100, 30:115].mean() > 15


MAKE = """
from tfrecords.demo.dataset import demo_data
print(demo_data())
"""


@pytest.mark.stops
@pytest.mark.slow
def test_a_process_waits_for_the_one_that_makes_the_demo_data(tmp_path, start, wait_until, waits_for_lock):
    home = tmp_path / "shardlight" / f"demo-{demo._VERSION}"
    home.mkdir(parents=True)
    with (home / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = start("-c", MAKE, env={"XDG_CACHE_HOME": str(tmp_path)})
        wait_until(lambda: waits_for_lock(process), "the process waits for the lock")
        assert [path.name for path in home.iterdir()] == ["lock"]
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert Manifest.load(Path(printed.strip())).name == demo.DEMO_NAME


def test_a_folder_that_holds_something_is_left_alone(tmp_path, facts):
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    message = f"{tmp_path}: is a file or a folder that is not empty; name a new or an empty folder"
    with pytest.raises(InputError, match=facts(message)):
        demo.write_images(tmp_path, patients=3)
    assert list(tmp_path.iterdir()) == [kept]
    with pytest.raises(InputError, match=r"notes\.txt: is a file or a folder that is not empty"):
        demo.write_images(kept, patients=3)
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed=-1: must be 0 or more"),
        ({"patients": 2}, "patients=2: must be 3 or more, so that both classes have one"),
    ],
)
def test_an_impossible_order_is_refused(tmp_path, arguments, message, facts):
    directory = tmp_path / "images"
    with pytest.raises(InputError, match=facts(message)):
        demo.write_images(directory, **arguments)
    assert not directory.exists()


def test_three_patients_make_both_classes(tmp_path):
    demo.write_images(tmp_path, patients=3)
    assert {name.split("/")[0] for name in read(tmp_path)} == {"NORMAL", "PNEUMONIA"}


@pytest.mark.slow
def test_demo_data_is_made_once_and_again_when_damaged(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(demo, "PATIENTS", PATIENTS)
    out = demo.demo_data()
    manifest = Manifest.load(out)
    assert manifest.name == demo.DEMO_NAME
    assert {"train", "val", "test"} == set(manifest.splits)
    assert str(out.parent) in capsys.readouterr().err
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert demo.demo_data() == out
    assert capsys.readouterr().err == ""
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    shard = out / manifest.splits["val"].shards[0].name
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert demo.demo_data() == out
    assert shard.read_bytes() == whole


def test_demo_data_names_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        demo.demo_data()
