import csv
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from tfrecords.augment import PRESETS, Augmentation
from tfrecords.example import decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records


def convert(run_command, *arguments, **options):
    return run_command("tfrecords.convert", *arguments, **options)


def test_help_explains(run_command):
    done = convert(run_command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m tfrecords.convert --images=chest_xray --out=data/chest_xray" in done.stdout
    for flag in (
        *("--images", "--out", "--name", "--size", "--channels", "--group_regex", "--val_fraction"),
        *("--test_fraction", "--copies", "--flip", "--rotation", "--zoom", "--crop", "--translation"),
        *("--brightness", "--contrast", "--gamma", "--fill", "--encoding", "--shard_size", "--seed"),
        "--[no]overwrite",
        *("--workers", "--augment", "--duplicates", "--resize", "--value_range"),
    ):
        assert f"\n  {flag}: " in done.stdout
    (size,) = re.findall(r"\n  --size: (.*?)\n  --", done.stdout, re.DOTALL)
    assert "HEIGHTxWIDTH" in size
    assert size.endswith("(default: 180)")
    groups = re.findall(r"^\w.*:$", done.stdout, re.MULTILINE)
    assert len(groups) == len(set(groups)) == 6
    # In the order in which they are defined, not sorted by name.
    places = [done.stdout.index(f"\n  --{name}: ") for name in ("images", "listing", "val_fraction", "size")]
    assert places == sorted(places)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--colour=red", "Unknown command line flag 'colour'"),
        ("--encoding=gif", "flag --encoding=gif: value should be one of <raw|png|jpeg>"),
        ("--channels=2", "flag --channels=2: value should be one of <grayscale|rgb|1|3>"),
        ("--resize=fit", "flag --resize=fit: value should be one of <stretch|pad|crop>"),
        (
            "--value_range=12",
            "--value_range=12: must be full, auto, or LOW:HIGH, two whole numbers up to 65535, ",
        ),
        (
            "--value_range=9:4",
            "--value_range=9:4: must be full, auto, or LOW:HIGH, two whole numbers up to 65535, ",
        ),
        ("--fill=black", "flag --fill=black: value should be one of <reflect|edge>"),
        ("--size=big", "--size=big: must be pixels, one number or HEIGHTxWIDTH, for example 180 or 180x240"),
        ("--size=0", "--size=(0, 0): each side must be from 1 to 8192 pixels"),
        ("--size=180x9000", "--size=(180, 9000): each side must be from 1 to 8192 pixels"),
        (
            "--shard_size=1TB",
            "--shard_size=1TB: must be a number of bytes, or with KB, MB or GB, for example 64MB",
        ),
        ("--shard_size=1KB", "--shard_size=1024 bytes: must be 64KB or more"),
        ("--copies=-1", "--copies=-1: must be 0 or more"),
        ("--copies=x", "--copies=x: must be a number, balance (more copies for "),
        ("--copies=balance:-1", "--copies=balance:-1: must be a number, balance (more copies for "),
        ("--augment=heavy", "flag --augment=heavy: value should be one of <none|light|standard|"),
        ("--duplicates=ignore", "flag --duplicates=ignore: value should be one of <refuse|keep|drop>"),
        ("--seed=-1", "--seed=-1: must be from 0 to 4294967295"),
        ("--workers=-1", "--workers=-1: must be 0 (one for each core) or more"),
        ("--flip=2", "--flip=2.0: must be from 0 to 1"),
        ("--rotation=360", "--rotation=360.0: must be from 0 to 180"),
        (
            "--val_fraction=0.9",
            "--val_fraction=0.9 and --test_fraction=0.15: each must be 0 or more and both together less than "
            "1",
        ),
        ("--group_regex=(", "--group_regex='(' is not a regular expression: "),
        (
            "stray.jpeg",
            "unexpected argument 'stray.jpeg': this command takes only flags, written --name=value",
        ),
    ],
)
def test_a_bad_value_is_named_and_nothing_is_made(run_command, image_folder, tmp_path, argument, message):
    out = tmp_path / "out"
    done = convert(run_command, f"--images={image_folder}", f"--out={out}", argument)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stdout == ""
    assert not out.exists()


@pytest.mark.parametrize(("flag", "other"), [("images", "out"), ("out", "images")])
def test_what_must_be_given(run_command, flag, other):
    done = convert(run_command, f"--{other}=x")
    assert done.returncode == 2
    assert f"Flag --{flag} must have a value other than None." in done.stderr


@pytest.mark.slow
def test_the_summary(run_command, image_folder, tmp_path):
    arguments = (f"--images={image_folder}", "--out=data", "--size=32x24", "--channels=rgb", "--seed=3")
    first = convert(run_command, *arguments, cwd=tmp_path)
    assert (first.returncode, first.stdout.count("\n")) == (0, 11)
    lines = first.stdout.splitlines()
    assert lines[0] == "data: converted"
    assert lines[1] == "chest_xray: 32x24x3 raw, 1 augmented copies of each train image, seed 3"
    assert lines[2] == "split    groups   images  records    NORMAL PNEUMONIA"
    table = {line.split()[0]: [int(cell) for cell in line.split()[1:]] for line in lines[3:6]}
    assert list(table) == ["train", "val", "test"]
    groups, images, records, normal, pneumonia = (sum(column) for column in zip(*table.values(), strict=True))
    assert (groups, images) == (24, 60)
    assert records == images + table["train"][1] == normal + pneumonia
    size = sum(path.stat().st_size for path in (tmp_path / "data").glob("*.tfrecord-*"))
    assert lines[6].startswith(f"3 shards, {size / 1e6:,.1f} MB, 0 images rejected, ")
    assert lines[6].endswith(" images/s")
    assert lines[7].startswith("positive class: PNEUMONIA (NORMAL is the negative class by its name")
    assert lines[8:] == [
        "Next:",
        "  python -m tfrecords.show --data=data",
        "  python -m trainer.main --data=data --strategy=mirrored --model=cnn",
    ]
    assert "converting" in first.stderr  # the progress bar
    assert f"{records}/{records}" in first.stderr

    again = convert(run_command, *arguments, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[0] == "data: complete already, all shards kept"
    assert again.stdout.splitlines()[1:6] == lines[1:6]
    assert "images/s" not in again.stdout

    shown = run_command(*lines[9].split()[2:4], cwd=tmp_path)
    assert shown.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "copies", "augmentation"),
    [
        ([], 1, Augmentation()),
        (["--augment=standard"], 1, Augmentation()),
        (["--augment=none"], 0, PRESETS["none"]),
        (["--augment=none", "--copies=1"], 1, PRESETS["none"]),
        (["--augment=radiograph"], 1, Augmentation(flip=0)),
        (["--augment=exposure"], 1, Augmentation(flip=0, gamma=0.3)),
        (["--augment=robust"], 1, PRESETS["robust"]),
        (
            ["--stretch=0.1", "--shear=3", "--blur=0.02", "--noise=0.1", "--rescale=0.4"],
            1,
            Augmentation(stretch=0.1, shear=3, blur=0.02, noise=0.1, rescale=0.4),
        ),
        (["--augment=radiograph", "--gamma=0.5"], 1, Augmentation(flip=0, gamma=0.5)),
        (["--augment=strong", "--rotation=3"], 1, replace(PRESETS["strong"], rotation=3)),
        (["--augment=light", "--fill=edge", "--copies=2"], 2, replace(PRESETS["light"], fill="edge")),
    ],
)  # fmt: skip
def test_presets_and_strengths(run_command, image_folder, tmp_path, arguments, copies, augmentation):
    own = (f"--images={image_folder}", f"--out={tmp_path}/out", "--size=24", "--workers=1")
    done = convert(run_command, *own, *arguments)
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(tmp_path / "out")
    assert (manifest.copies, manifest.augmentation) == (copies, augmentation.to_json())


@pytest.mark.slow
def test_duplicates_in_the_summary_and_refused(run_command, image_folder, tmp_path):
    images = shutil.copytree(image_folder, tmp_path / "chest_xray")
    path = min((images / "NORMAL").glob("IM-0001*"))
    shutil.copy(path, images / "NORMAL" / f"IM-0001-9{path.suffix}")
    arguments = (f"--images={images}", "--out=out", "--size=32", "--workers=1")
    done = convert(run_command, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "\nduplicates: 1 set of 2 images that are the same to the pixel, each inside one split and class\n"
        "all listed in duplicates.csv\n"
    ) in done.stdout
    shutil.copy(path, images / "PNEUMONIA" / f"person1_virus_9{path.suffix}")
    done = convert(run_command, *arguments, "--overwrite", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: {images}: 1 set of images are the same to the pixel (1 with two labels"
    )


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_images(run_command, real_images, tmp_path):
    done = convert(run_command, f"--images={real_images}", f"--out={tmp_path}/data")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "data" / "sources.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5216
    assert Counter(row["class"] for row in rows) == {"NORMAL": 1341, "PNEUMONIA": 3875}
    splits = defaultdict(set)
    for row in rows:
        splits[row["group"]].add(row["split"])
    assert [group for group, found in splits.items() if len(found) > 1] == []
    # As many groups as the names have: (series, number).
    names = {re.match(r"person\d+_[a-z]+|(NORMAL2-)?IM-\d+", row["id"].split("/")[1])[0] for row in rows}
    assert len(splits) == len(names)
    shares = Counter(row["split"] for row in rows)
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert shares[split] / 5216 == pytest.approx(share, abs=0.02)
        sick = sum(row["class"] == "PNEUMONIA" for row in rows if row["split"] == split)
        assert sick / shares[split] == pytest.approx(3875 / 5216, abs=0.03)
    manifest = Manifest.load(tmp_path / "data")
    assert (manifest.image_shape, manifest.rejected) == ((180, 180, 1), ())
    found = Counter(
        (name, record.source, record.copy)
        for name, split in manifest.splits.items()
        for shard in split.shards
        for record in map(decode, read_records(tmp_path / "data" / shard.name))
    )
    assert found == Counter(
        (row["split"], int(row["source"]), copy)
        for row in rows
        for copy in range(2 if row["split"] == "train" else 1)
    )


@pytest.mark.slow
def test_the_summary_tells_what_was_passed_over_and_the_order_is_the_given_one(
    image_folder, run_command, tmp_path
):
    images = tmp_path / "images"
    for label in ("NORMAL", "PNEUMONIA"):
        shutil.copytree(image_folder / label, images / label / "images")
        shutil.copytree(image_folder / label, images / label / "masks")
        (images / label / "@eaDir").mkdir()
    arguments = (f"--images={images}", f"--out={tmp_path / 'out'}", "--size=24", "--workers=1")
    refused = convert(run_command, *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "\n  masks: NORMAL 24 files, PNEUMONIA 36 files\n" in refused.stderr
    more = ("--subfolders=ignore=masks", "--classes=PNEUMONIA, NORMAL")
    for found in ("converted", "complete already"):
        done = convert(run_command, *arguments, *more)
        assert done.returncode == 0, done.stderr
        assert found in done.stdout
        assert "\nSkipped by --subfolders=ignore: 2 folders masks (60 files)\n" in done.stdout
        assert "\nSkipped, not images: 2 @eaDir\n" in done.stdout
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.class_names == ("PNEUMONIA", "NORMAL")
    assert sum(split.images for split in manifest.splits.values()) == 60
    with (tmp_path / "out" / "sources.csv").open() as file:
        assert Counter(row["class"] for row in csv.DictReader(file)) == {"NORMAL": 24, "PNEUMONIA": 36}
    shards = manifest.split("train").shards
    records = [decode(data) for s in shards for data in read_records(tmp_path / "out" / s.name)]
    assert {(record.id.split(b"/")[0], record.label) for record in records} == {
        (b"PNEUMONIA", 0),
        (b"NORMAL", 1),
    }
