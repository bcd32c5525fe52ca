import re
from pathlib import Path

import pytest

from tfrecords.convert.conversion import sources_of
from tfrecords.convert.options import ConvertOptions, parse_bytes, parse_size, refuse_nested
from tfrecords.convert.remote import convert_remote
from tfrecords.errors import InputError


@pytest.fixture
def places(tmp_path):
    """A folder of images with a class, one beside it, and links to both."""
    (tmp_path / "images" / "A").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    (tmp_path / "deep").symlink_to(tmp_path / "images" / "A")
    (tmp_path / "images_too").mkdir()
    (tmp_path / "images" / "out_there").symlink_to(tmp_path / "beside")
    return tmp_path


@pytest.mark.parametrize(
    ("images", "out", "where"),
    [
        ("images", "images/out", "is inside"),
        ("images", "images/A/deep/out", "is inside"),
        ("images", "images", "is the folder of"),
        ("images", "link/out", "is inside"),
        ("link", "images/out", "is inside"),
        ("images", "deep/out", "is inside"),
        ("link", "images", "is the folder of"),
        ("images", "beside/../images/out", "is inside"),
        ("images", "images/out_there/out", "is inside"),  # for the listing follows links
        ("images", "beside/none/../../images/out", "is inside"),
        ("images/A", "images", "holds"),
        ("images/A", ".", "holds"),
        ("none", "none/out", "is inside"),
    ],
)
def test_results_among_the_images_are_refused_with_both_paths(places, images, out, where):
    with pytest.raises(InputError) as caught:
        refuse_nested(places / images, places / out, listed=False)
    assert str(caught.value).startswith(f"--out={places / out}: {where} --images={places / images}")
    refuse_nested(places / images, places / out, listed=True)


@pytest.mark.parametrize(
    ("images", "out"),
    [
        ("images", "beside"),
        ("images", "images_too"),
        ("images", "images/../out"),
        ("images", "beside/out"),
    ],
)
def test_results_beside_the_images_are_allowed(places, images, out):
    refuse_nested(places / images, places / out, listed=False)


def test_a_relative_path_is_one_from_here(places, monkeypatch):
    monkeypatch.chdir(places / "images")
    with pytest.raises(InputError, match=r"--out=data: is inside --images=\.,"):
        refuse_nested(Path(), Path("data"), listed=False)


def test_nothing_is_listed_before(places):
    with pytest.raises(InputError, match="is inside --images="):
        sources_of(ConvertOptions(places / "images", places / "images/out"))
    assert not (places / "images/out").exists()


@pytest.mark.parametrize(
    ("images", "out", "said"),
    [
        ("images", "s3://bucket/out", "--work={work}: is inside --images=images,"),
        (
            "s3://bucket/images",
            "images/work/images/images/out",
            "is inside --images=images/work/images/images,",
        ),
    ],
)
def test_the_copies_of_remote_places_are_no_images_either(places, monkeypatch, images, out, said):
    monkeypatch.chdir(places)
    work = Path("images/work")
    listing = Path("list.csv") if "://" in images else None  # what is fetched removes what is in its way
    options = ConvertOptions(Path(images), Path(out), listing=listing)
    with pytest.raises(InputError) as caught:
        convert_remote(options, images=images, out=out, work=work)
    assert said.format(work=work) in str(caught.value)
    assert not work.exists()


def test_subfolders_are_no_matter_of_a_listing(tmp_path):
    with pytest.raises(InputError, match="--subfolders=keep: is for class folders, but a --listing"):
        ConvertOptions(tmp_path, tmp_path, subfolders="keep", listing=tmp_path / "a.csv")


def test_subfolders_are_checked(tmp_path):
    with pytest.raises(InputError, match="--subfolders=skip: must be keep, or ignore=NAMES"):
        ConvertOptions(tmp_path, tmp_path, subfolders="skip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 5)}, "--size=(0, 5): each side must be from 1 to 8192 pixels"),
        ({"channels": 2}, "--channels=2: must be 1 (grayscale) or 3 (RGB)"),
        ({"encoding": "gif"}, "--encoding=gif: must be one of raw, png, jpeg"),
        ({"copies": -1}, "--copies=-1: must be 0 or more"),
        ({"shard_size": 65535}, "--shard_size=65535 bytes: must be 64KB or more"),
        ({"workers": -1}, "--workers=-1: must be 0 (one for each core) or more"),
        ({"seed": -1}, "--seed=-1: must be from 0 to 4294967295"),
        ({"seed": 2**32}, "--seed=4294967296: must be from 0 to 4294967295"),
    ],
)
def test_options_that_cannot_be(change, message, facts):
    with pytest.raises(InputError) as caught:
        ConvertOptions(Path("images"), Path("data"), **change)
    assert re.search(facts(message), str(caught.value))


@pytest.mark.parametrize(
    ("text", "size"), [("180", (180, 180)), ("180x240", (180, 240)), ("1", (1, 1)), ("0", (0, 0))]
)
def test_parse_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "180x", "x180", "-5", "1.5", "180 x 240", "1x2x3"])
def test_what_is_no_size(text, facts):
    with pytest.raises(InputError) as caught:
        parse_size(text)
    assert re.search(
        facts(f"--size={text}: must be pixels, one number or HEIGHTxWIDTH, for example 180 or 180x240"),
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("64KB", 65536), ("64MB", 64 << 20), ("64mb", 64 << 20), ("1 GB", 1 << 30)],
)
def test_parse_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1.5MB", "64M", "-1MB"])
def test_what_is_no_number_of_bytes(text, facts):
    with pytest.raises(InputError) as caught:
        parse_bytes(text)
    assert re.search(
        facts(f"--shard_size={text}: must be a number of bytes, or with KB, MB or GB, for example 64MB"),
        str(caught.value),
    )
