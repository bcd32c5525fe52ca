import pytest

from tfrecords.errors import InputError
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.privacy import GroupKey
from tfrecords.sources.subfolders import Subfolders


def images(*folders, number=1):
    return [f"{folder}/{n}.png" for folder in folders for n in range(number)]


def refusal(root, **options):
    with pytest.raises(InputError) as caught:
        list_images(root, **options)
    return str(caught.value)


@pytest.fixture
def masks(plant):
    """Two classes, each with 3 images and 2 masks."""
    return plant(
        *images("COVID/images", "Normal/images", number=3), *images("COVID/masks", "Normal/Masks ", number=2)
    )


def test_the_same_name_below_two_classes_is_refused_with_counts_and_choices(masks):
    message = refusal(masks)
    assert "\n  images: COVID 3 files, Normal 3 files\n  masks: COVID 2 files, Normal 2 files\n" in message
    for choice in ("--subfolders=keep", "--subfolders=ignore=NAMES", "ignore=masks", "--listing"):
        assert choice in message


def test_ignored_folders_are_passed_over_and_counted(masks):
    listing = list_images(masks, subfolders="ignore=masks")
    assert [s.path for s in listing.sources] == images("COVID/images", "Normal/images", number=3)
    assert listing.notes == (
        "Skipped by --subfolders=ignore: 2 folders masks (4 files)",
        "Subfolders of the same name below several class folders, taken: images (6 files)",
    )


def test_kept_folders_are_taken_and_told(masks):
    listing = list_images(masks, subfolders="keep")
    assert len(listing.sources) == 10
    assert len({s.group for s in listing.sources}) == 10
    assert listing.notes == (
        "Subfolders of the same name below several class folders, taken: images, masks (10 files)",
    )


@pytest.mark.parametrize(
    "folders",
    [
        ["A/patient1", "B/patient1"],
        ["A/Site", "B/site"],
        ["A/caf\u00e9", "B/cafe\u0301"],
        ["A/p1/masks", "B/p2/masks"],
        ["train/A/p1", "train/B/p2", "test/A/p1", "test/B/p3"],
        ["A/train/x", "B/train/x"],
        ["images/COVID", "images/Normal", "lungs/COVID", "lungs/Normal"],
        ["fold1/A", "fold1/B", "fold2/A", "fold2/B"],
        # One class alone, but the name tells that they are no images of it.
        ["A/masks", "A", "B"],
        ["A/COVID_masks", "B/Normal_masks"],
        ["A/labels", "B"],
        ["A/site/train", "A/site/test", "B"],
        ["bus/a", "bus/b", "car/a", "car/b", "train/a", "train/b"],
    ],
)
def test_what_would_be_merged_is_refused(plant, folders):
    root = plant(*images(*folders))
    assert "--subfolders=keep" in refusal(root)
    assert len(list_images(root, subfolders="keep").sources) == len(folders)


@pytest.mark.parametrize(
    "folders",
    [
        ["A/p1", "A/p2", "B/p3"],
        ["A/p1/left", "A/p2/left", "B/p3"],
        ["A", "A/sub", "B"],
        ["train/A/p1", "train/B/p2", "test/A/p3", "test/B/p4"],
        ["A/unmasked", "B/Mustang GT"],
        ["A/x/train", "B"],
    ],
)
def test_folders_of_different_names_are_accepted_without_a_word(plant, folders):
    listing = list_images(plant(*images(*folders)))
    assert len(listing.sources) == len(folders)
    assert listing.notes == ()


def test_a_group_expression_joins_the_images_of_a_folder(plant):
    root = plant(*images("A/patient1", "B/patient1", "B/patient2", number=2))
    listing = list_images(root, r"^([^/]+)/", subfolders="keep")
    assert [s.group for s in listing.sources] == ["patient1"] * 4 + ["patient2"] * 2


def test_many_names_are_counted_and_ten_shown(plant):
    root = plant(*images(*(f"{label}/p{n:03}" for label in "AB" for n in range(25))))
    message = refusal(root)
    assert "  p009: A 1 files, B 1 files\n  ... and 15 more\n" in message
    assert "p010" not in message


def test_an_ignored_name_that_is_nowhere_is_refused(masks):
    message = refusal(masks, subfolders="ignore=masks,mask")
    assert message.startswith("--subfolders=ignore=masks,mask: ")
    assert message.endswith("is called mask; there are images")


def test_a_class_of_ignored_folders_alone_is_refused(masks):
    assert "class folder without images" in refusal(masks, subfolders="ignore=masks,images")


def test_with_a_key_no_name_is_shown(plant):
    root = plant(*images("A/Jones", "B/Jones"))
    key = GroupKey(bytes(32))
    message = refusal(root, key=key)
    assert "1 names, 2 files below A, B" in message
    assert "Jones" not in message
    assert "Jones" not in refusal(root, key=key, subfolders="ignore=other")
    for choice in ("keep", "ignore=jones"):
        plant(*images("A/x", "B/y"))
        notes = list_images(root, key=key, subfolders=choice).notes
        assert notes
        assert "jones" not in str(notes).casefold()


@pytest.mark.parametrize("text", ["yes", "ignore", "ignore=", "ignore=a,,b", "ignore=a/b", "keep=a", "Keep"])
def test_what_the_flag_cannot_say(text):
    with pytest.raises(InputError) as caught:
        Subfolders.parse(text)
    assert str(caught.value).startswith(f"--subfolders={text}: must be keep, or ignore=NAMES")


def test_what_the_flag_says():
    assert Subfolders.parse("") == Subfolders()
    assert Subfolders.parse("keep") == Subfolders(keep=True)
    assert Subfolders.parse("ignore=Masks, b,masks") == Subfolders(ignored=("masks", "b"))


def test_masks_beside_their_images_are_refused(plant):
    names = [
        "A/a (1).png",
        "A/a (1)_mask.png",
        "A/a (1)_mask_1.png",
        "A/sub/b.jpg",
        "A/sub/b_Thumb.png",
        "B/c.png",
    ]
    root = plant(*names)
    message = refusal(root)
    assert "3 of 6 files are named like masks of other images, first A/a (1)_mask.png" in message
    assert "a (1)" not in refusal(root, key=GroupKey(bytes(32)))
    kept = list_images(root, subfolders="keep")
    assert len(kept.sources) == 6
    assert kept.notes == ("Files named like masks of other images, taken as images: 3",)


def test_names_that_sound_like_masks_but_belong_to_nothing_are_images(plant):
    root = plant("A/a_mask.png", "A/b.mask", "A/unmask.png", "A/un.png", "B/a.png", "B/seg.png")
    listing = list_images(root)
    assert (len(listing.sources), listing.notes) == (6, ())
