"""What a conversion with a key calls a file leads back to it, by the very command of the docs."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.pool import Pool
from tfrecords.sources.class_folders import list_images
from tfrecords.sources.positions import file_at
from tfrecords.sources.privacy import load_key
from tfrecords.sources.rejection import MaxRejects
from tfrecords.sources.tables import read_listing

ROOT = Path(__file__).resolve().parents[3]
RECIPE = re.search(r"```sh\n(python -c .*?file_at.*?)```", (ROOT / "docs/images.md").read_text(), re.DOTALL)[
    1
]
NAMES = (
    *(
        "a b/c.png",
        "a.png",
        "a/b.png",
        "Ä/x.png",
        "Ärger.png",
        "z.png",
        "B/9.png",
        "B/10.png",
        "with\nline.png",
    ),
    *("-n", "$HOME.png", "'quoted' \"twice\".png", "no extension"),
)
CLUTTER = (".DS_Store", "a/.hidden.png", ".git/x.png", "Thumbs.db", "B/desktop.ini", "__MACOSX/c.png")
CLUTTERED = (".git", "__MACOSX")


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "group.key"
    path.write_bytes(bytes(range(32)))
    return path


@pytest.fixture(scope="module", params=["", "train"])
def images(request, tmp_path_factory):
    """Two classes of odd names and clutter, with a link to a file and one to a folder; every third is cut."""
    root = tmp_path_factory.mktemp("images")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for split in (request.param, "val") if request.param else ("",):
        for label in ("NORMAL", "PNEUMONIA"):
            for number, name in enumerate((*NAMES, *CLUTTER)):
                folder, slash, file = name.rpartition("/")  # a name that two classes have would be refused
                below = folder if folder in CLUTTERED else f"{folder}{label[0]}{split}"
                path = root / split / label / (f"{below}{slash}{file}" if slash else name)
                path.parent.mkdir(parents=True, exist_ok=True)
                value = 2 * number + (label == "NORMAL") + 99 * (split == "val")
                Image.fromarray(np.full((8, 8), value, np.uint8)).save(path, "PNG")
                if number % 3 == 0:
                    path.write_bytes(path.read_bytes()[:20])
        Image.fromarray(np.full((8, 8), 250, np.uint8)).save(elsewhere / "linked.png")
        (root / split / "NORMAL" / "link.png").symlink_to(elsewhere / "linked.png")
        (root / split / "NORMAL" / f"c{split}").symlink_to(elsewhere)
    return root


def recipe(name, *, images, key_file, listing=None):
    """Runs the docs' command with other names in it."""
    command = RECIPE.replace("'NORMAL, file 3'", f"'{name}'").replace("dicom_folder", str(images))
    command = command.replace("group.key", str(key_file)).strip() + (f" {listing}" if listing else "")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_every_position_and_id_leads_to_its_file(images, key_file):
    listing = list_images(images, max_rejects=MaxRejects(percent=100), key=load_key(key_file), pool=Pool(1))
    assert len(listing.rejected) >= 10
    below = {source.path for source in listing.sources}
    assert not {path for path in below if path.endswith(("Thumbs.db", ".DS_Store", ".hidden.png", "c.png/"))}
    for source in listing.sources[::4]:
        for name in (source.position, source.id, f"{images}/{source.position}"):
            assert file_at(name, images, key_file) == images / source.path


def test_the_command_of_the_docs_finds_what_is_cut(images, key_file):
    with pytest.raises(InputError) as caught:
        list_images(images, key=load_key(key_file), pool=Pool(1))
    assert "docs/images.md" in str(caught.value)
    name, reason = re.findall(r"^  (.*?): (.*)$", str(caught.value), re.MULTILINE)[3]
    assert re.fullmatch(r"(train/)?NORMAL, file \d+", name)
    assert "cannot be decoded" in reason
    found = Path(recipe(name, images=images, key_file=key_file).removesuffix("\n"))
    assert found.is_relative_to(images)
    assert found.stat().st_size == 20  # it is one of those that were cut
    # By hand: all that is no clutter, in the order of the bytes of the paths.
    folder = images / name.partition(",")[0]
    walked = [Path(at) / file for at, _, files in os.walk(folder, followlinks=True) for file in files]
    clutter = (".", "__MACOSX", "Thumbs.db", "desktop.ini")
    there = [
        path for path in walked if not any(p.startswith(clutter) for p in path.relative_to(folder).parts)
    ]
    assert sorted(map(os.fsencode, there))[int(name.split()[-1]) - 1] == os.fsencode(found)


@pytest.mark.slow
@pytest.mark.parametrize("images", [""], indirect=True)
def test_the_ids_of_a_conversion_lead_to_the_files(run_command, key_file, images, tmp_path):
    flags = (
        "--size=8",
        "--duplicates=keep",
        "--max_rejects=90%",
        "--val_fraction=0.2",
        "--test_fraction=0.2",
        "--workers=1",
    )
    done = run_command(
        "tfrecords.convert",
        f"--images={images}",
        f"--out={tmp_path}/o",
        f"--group_key_file={key_file}",
        *flags,
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "o" / "rejected.csv").open(newline="") as file:
        rejected = [row["id"] for row in csv.DictReader(file)]
    assert len(rejected) >= 10
    for name in rejected:
        assert file_at(name, images, key_file).stat().st_size == 20
    found = recipe(rejected[0], images=images, key_file=key_file)
    assert found == f"{file_at(rejected[0], images, key_file)}\n"


def test_a_row_of_a_listing_leads_to_its_file(key_file, tmp_path):
    names = [f"{label}/{number}.png" for label in "ba" for number in range(3)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    listing = tmp_path / "listing.csv"
    listing.write_text("path,label\n" + "".join(f"{name},{name[0]}\n" for name in names))
    assert file_at("row 2 of the listing", tmp_path, key_file, listing) == tmp_path / names[1]
    source = read_listing(listing, tmp_path, key=load_key(key_file)).sources[0]
    assert file_at(source.id, tmp_path, key_file, listing) == tmp_path / source.path
    found = recipe("row 6 of the listing", images=tmp_path, key_file=key_file, listing=listing)
    assert found == f"{tmp_path / names[5]}\n"


def test_a_name_that_no_file_has(images, key_file):
    with pytest.raises(InputError, match=r"'NORMAL, file 999': no file has this name; .*NORMAL, file 1"):
        file_at("NORMAL, file 999", images, key_file)
