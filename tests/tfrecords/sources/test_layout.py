import pytest

from tfrecords.errors import InputError
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.layout import split_hint


def listed(root, **options):
    """Returns {path: (class, split)}."""
    listing = list_images(root, **options)
    return {s.path: (listing.class_names[s.label], s.split) for s in listing.sources}


def refusal(root, **options):
    with pytest.raises(InputError) as caught:
        list_images(root, **options)
    return str(caught.value)


def images(*folders, number=1):
    return [f"{folder}/{n}.png" for folder in folders for n in range(number)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRAIN ", "train"),
        ("val", "val"),
        ("Valid", "val"),
        ("validation", "val"),
        ("dev", "val"),
        ("EVAL", "val"),
        ("test", "test"),
        ("Testing", "test"),
    ],
)
def test_split_folders_by_their_usual_names(plant, name, split):
    above = listed(
        plant(*images(f"{name}/A", f"{name}/B", *[] if split == "train" else ["train/A", "train/B"]))
    )
    assert above[f"{name}/A/0.png"] == ("A", split)
    assert above[f"{name}/B/0.png"] == ("B", split)


def test_split_folders_below_class_folders(plant):
    root = plant(*images("A/Train", "B/train", "A/testing", "B/Test", "B/Test/patient1"))
    assert listed(root) == {
        "A/Train/0.png": ("A", "train"),
        "B/train/0.png": ("B", "train"),
        "A/testing/0.png": ("A", "test"),
        "B/Test/0.png": ("B", "test"),
        "B/Test/patient1/0.png": ("B", "test"),
    }
    # The path below the class folder and its split is searched.
    assert [s.group for s in list_images(root, r"^(patient\d)/|(\d)").sources][-1] == "patient1"


def test_splits_below_class_folders_must_be_whole(plant):
    root = plant(*images("A/train", "B/train", "A/test"))
    assert "split 'test' has no folder for class B" in refusal(root)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["A/test", "B/test"], "has test in its class folders but no train folder"),
        (["A/train", "A/Training", "B/train"], "A: two folders for one split: Training, train"),
        (["A/train", "B/train", "A"], "A/0.png: an image outside the split folders; put it into the folder"),
    ],
)
def test_split_folders_below_class_folders_that_cannot_be(plant, folders, said):
    assert said in refusal(plant(*images(*folders)))


@pytest.mark.parametrize(
    "folders",
    [
        ["A/train", "A/test", "B/train", "B/test", "B/extra"],
        ["A/train", "A/test", "B"],
        ["A/test", "A/p1", "B/p2"],
        ["A/test", "A", "B"],
        ["A/train", "A", "B"],
        ["A/A_train", "A/A_test", "B/B_train", "B/B_test"],
    ],
)
def test_split_folders_are_not_flattened_where_not_all_is_split(plant, folders):
    root = plant(*images(*folders))
    message = refusal(root)
    assert "class folder A holds " in message
    assert "--subfolders=keep" in message
    kept = listed(root, subfolders="keep")
    assert set(kept.values()) == {("A", None), ("B", None)}
    assert len(kept) == len(folders)


def test_an_ignored_folder_beside_splits_leaves_them_splits(plant):
    root = plant(*images("A/train", "A/test", "B/train", "B/test"), *images("B/extra", number=3))
    listing = list_images(root, subfolders="ignore=extra")
    assert [s.split for s in listing.sources] == ["train", "train", "test", "test"]
    assert listing.notes == ("Skipped by --subfolders=ignore: 1 folders extra (3 files)",)


def test_a_split_word_with_images_inside_is_a_class(plant):
    assert set(listed(plant(*images("bus", "car", "train"))).values()) == {
        ("bus", None),
        ("car", None),
        ("train", None),
    }


def test_a_folder_called_train_among_others_below_a_class_is_what_it_shows(plant):
    root = plant(*images("vehicle/bus", "vehicle/car", "vehicle/train", "animal/cat"))
    assert {name for name, _ in listed(root).values()} == {"vehicle", "animal"}


@pytest.mark.parametrize(
    "folders",
    [
        ["train", "test"],
        ["train", "test", "annotations"],
        ["train", "test", "a", "b", "c", "d"],
        ["Training", "Validation", "a"],
        ["train_images", "test_images"],
        ["trainA", "trainB", "testA", "testB"],
        ["seg_train/seg_train/A", "seg_train/seg_train/B", "seg_test/seg_test/A", "seg_pred/seg_pred"],
        ["Train Data/A", "Train Data/B", "Test Data/A", "Test Data/B"],
    ],
)
def test_splits_are_never_silently_classes(plant, folders):
    root = plant(*images(*folders))
    message = refusal(root)
    assert "splits" in message
    assert "--classes=" in message


@pytest.mark.parametrize("folders", [["train", "test"], ["train_x", "test_x", "b"], ["train/p1", "test/p2"]])
def test_the_user_may_say_that_they_are_classes(plant, folders):
    root = plant(*images(*folders))
    names = sorted({folder.split("/")[0] for folder in folders}, reverse=True)
    listing = list_images(root, classes=names)
    assert listing.class_names == tuple(names)
    assert {s.split for s in listing.sources} == {None}


def test_a_given_order_leaves_splits_below_classes_splits(plant):
    root = plant(*images("A/train", "A/test", "B/train", "B/test"))
    listing = list_images(root, classes=("B", "A"))
    assert [(s.path, s.label, s.split) for s in listing.sources][:2] == [
        ("A/train/0.png", 1, "train"),
        ("B/train/0.png", 0, "train"),
    ]


@pytest.mark.parametrize(
    "folders",
    [
        ["test_pos", "test_neg"],
        ["valid ticket", "invalid ticket"],
        ["train station", "test tube", "apple", "pear", "plum"],
        ["trains", "tests", "values"],
        ["control", "test"],
    ],
)
def test_names_with_such_words_may_be_classes(plant, folders):
    assert list_images(plant(*images(*folders))).class_names == tuple(sorted(folders))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train_images", "train"),
        ("trainA", "train"),
        ("Trainset", "train"),
        ("TestData", "test"),
        ("my-validation-set", "val"),
        ("constrained", None),
        ("latest", None),
        ("contest", None),
        ("valley", None),
    ],
)
def test_a_word_in_a_name_tells_a_split(name, split):
    assert split_hint(name) == split


def test_a_folder_too_high_is_told_which_to_give(plant):
    root = plant(*images("x/y/train/A", "x/y/train/B", "x/y/test/A", "x/y/test/B"), files={"x/README": b"a"})
    assert f"give --images={root}/x/y" in refusal(root)
    assert len(listed(root / "x/y")) == 4


@pytest.mark.parametrize(
    "folders", [["images", "masks"], ["train/Images", "train/masks"], ["images/x", "masks/y"]]
)
def test_folders_of_images_and_masks_are_no_classes(plant, folders):
    root = plant(*images(*folders))
    assert "--listing" in refusal(root)
    names = [folder.removeprefix("train/").split("/")[0] for folder in folders]
    assert list_images(root, classes=names).class_names == tuple(names)


@pytest.mark.parametrize("stray", ["cafe\u0301", "caf\u00e9 ", "\u00a0caf\u00e9"])
def test_class_folders_that_look_the_same_are_one_class(plant, stray):
    root = plant(*images("train/caf\u00e9", "train/tea", f"test/{stray}", "test/tea"))
    listing = list_images(root)
    assert listing.class_names == ("caf\u00e9", "tea")
    assert [(s.path, s.label) for s in listing.sources if s.split == "test" and s.label == 0] == [
        (f"test/{stray}/0.png", 0)
    ]
    assert listing.notes == (
        f"Class folders with stray spaces or in another Unicode form, normalized: {stray!a} as 'caf\u00e9'",
    )


def test_class_folders_beside_each_other_that_look_the_same_are_refused(plant):
    message = refusal(plant(*images("caf\u00e9", "cafe\u0301", "tea")))
    assert "'cafe\\u0301' and 'caf\\xe9'" in message


def test_splits_with_stray_spaces_are_splits(plant):
    assert set(listed(plant(*images("train /A", "train /B"))).values()) == {("A", "train"), ("B", "train")}


def test_with_a_key_no_name_below_a_class_is_shown(plant):
    from tfrecords.sources.privacy import GroupKey

    root = plant(*images("A/train Jones", "A/test Jones", "B"))
    assert "Jones" in refusal(root)
    message = refusal(root, key=GroupKey(bytes(32)))
    assert "class folder A holds 2 folders" in message
    assert "Jones" not in message
