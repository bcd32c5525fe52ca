import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tfrecords.augment import Transform, apply_transform
from tfrecords.example import decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records


@pytest.fixture(scope="module")
def converted(run_command, image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "data"
    done = run_command(
        "tfrecords.convert",
        f"--images={image_folder}",
        f"--out={out}",
        "--size=36x44",
        "--copies=2",
        "--gamma=0.3",
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def data(converted, tmp_path):
    """A copy to harm."""
    return shutil.copytree(converted, tmp_path / "data")


def test_help_explains(run_command):
    done = run_command("tfrecords.show", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m tfrecords.show --data=data/chest_xray" in done.stdout
    for flag in ("--data", "--split", "--count", "--png", "--html", "--[no]draws"):
        assert f"\n  {flag}: " in done.stdout


@pytest.mark.slow
def test_the_manifest_in_words_and_a_sheet(run_command, data):
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    done = run_command("tfrecords.show", f"--data={data}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "chest_xray: 36x44x1 raw, 2 augmented copies of each train image, seed 0"
    assert [line.split()[0] for line in lines[1:5]] == ["split", "train", "val", "test"]
    assert lines[5] == (
        "copies: flip 0.5, rotation 10.0, zoom 0.1, crop 0.1, translation 0.05, brightness 0.1, "
        "contrast 0.15, gamma 0.3, fill reflect"
    )
    assert lines[6].startswith("written with numpy ")
    assert "pillow " in lines[6]
    assert lines[7].startswith("largest group: ")
    assert lines[8].startswith("classes in each shard of train: NORMAL ")
    assert lines[11:] == [
        "duplicates: no two images are the same to the pixel",
        "near duplicates: no two images in different splits look the same",
        f"contact sheet: {data}/contact_sheet_train.png",
    ]
    with Image.open(data / "contact_sheet_train.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 3 * 180
        assert np.asarray(sheet).std() > 20
    (data / "contact_sheet_train.png").unlink()
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_another_split_to_another_file(run_command, data, tmp_path):
    png = tmp_path / "sheet.png"
    done = run_command("tfrecords.show", f"--data={data}", "--split=test", "--count=2", f"--png={png}")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"contact sheet: {png}")
    with Image.open(png) as sheet:
        assert sheet.size[1] < 400
    assert list(data.glob("*.png")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--data={data}", "--split=holdout"],
            "split 'holdout' is not in data set 'chest_xray'; it has train, ",
        ),
        (["--data={data}", "--count=0"], "--count=0: must be 1 or more"),
        (
            ["--data={data}", "--png={data}/none/sheet.png"],
            "--png={data}/none/sheet.png: cannot be written: No ",
        ),
        (["--data={data}", "--png=sheet", "--html=sheet"], "--html=sheet: is also the file of --png"),
        (["--data={data}", "--colour=red"], "Unknown command line flag 'colour'"),
        (["--split=train"], "flag --data=None: Flag --data must have a value other than None."),
        (
            ["--data={data}/none"],
            "{data}/none: no such folder; make the data set with\n"
            "  python -m tfrecords.convert --images=IMAGE_FOLDER --out={data}/none\n",
        ),
    ],
)
def test_bad_input(run_command, data, arguments, message):
    done = run_command("tfrecords.show", *(argument.format(data=data) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: " + message.format(data=data))


class Page(HTMLParser):
    """What a page holds: its words, the images' data, and whatever would reach outside."""

    def __init__(self):
        super().__init__()
        self.words, self.images, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "img":
            kind, data = values["src"].split(",")
            assert kind == "data:image/png;base64"
            with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
                self.images.append((values["alt"], values.get("class"), np.asarray(image)))
        elif tag in ("script", "link", "iframe", "object") or "href" in values or "src" in values:
            self.outside.append(tag)

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.slow
def test_one_page_of_everything(run_command, image_folder, tmp_path):
    images = tmp_path / "chest <xray>"
    shutil.copytree(image_folder, images / "train")
    normal, sick = (images / "train" / name for name in ("NORMAL", "PNEUMONIA"))
    for name, kept in (("test", 4), ("val", 3)):
        for folder in (normal, sick):
            (images / name / folder.name).mkdir(parents=True)
            for number in range(kept):
                path = sorted(folder.iterdir())[-1]
                path.rename(images / name / folder.name / f"{name}{number}{path.suffix}")
    with Image.open(min(sick.glob("*.bmp"))) as image:
        image.point(lambda value: min(255, value + 2)).save(images / "test" / "PNEUMONIA" / "near.png")
    path = min(normal.iterdir())
    shutil.copy(path, images / "test" / "NORMAL" / f"same{path.suffix}")
    arguments = ("--size=36x44", "--copies=2", "--duplicates=keep", "--name=a", "--workers=1")
    done = run_command("tfrecords.convert", f"--images={images}", f"--out={tmp_path}/data", *arguments)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "page.html"
    done = run_command("tfrecords.show", f"--data={tmp_path}/data", f"--html={page}", "--count=4")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"page: {page}"), done.stderr
    parsed = Page()
    parsed.feed(page.read_text())
    assert parsed.outside == []
    assert "url(" not in page.read_text()
    assert "prefers-color-scheme: dark" in page.read_text()
    words = " ".join(parsed.words)
    for title in (
        *("Splits", "How far the splits can be trusted", "Class balance", "Sizes of the source images"),
        *("Split train", "Split val", "Split test", "Images in two splits that look the same"),
        "Images that are the same to the pixel",
    ):
        assert title in parsed.words
    assert "1 set of 2 images that are the same to the pixel, 1 set in two splits" in words
    manifest = Manifest.load(tmp_path / "data")
    assert f"{manifest.splits['train'].records_per_class[1]:,}" in parsed.words
    shown = [(name, kind) for name, kind, _ in parsed.images]
    assert [kind for _, kind in shown[:12]] == [None, "copy", "copy"] * 4
    assert "test/PNEUMONIA/near.png" in [name for name, _ in shown]
    same = [array for name, kind, array in parsed.images[-2:]]
    assert [name for name, _ in shown[-2:]] == [
        f"train/NORMAL/{path.name}", f"test/NORMAL/same{path.suffix}"
    ]  # fmt: skip
    assert np.array_equal(*same)
    assert same[0].std() > 5
    again = tmp_path / "again.html"
    run_command("tfrecords.show", f"--data={tmp_path}/data", f"--html={again}", "--count=4")
    assert again.read_bytes() == page.read_bytes()


def test_the_draws_are_those_of_the_records(run_command, data):
    done = run_command("tfrecords.show", f"--data={data}", "--draws", "--count=3")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if ", copy " in line]
    assert len(lines) == 3 * 2
    records = {
        (record.id.decode(), record.copy): np.frombuffer(record.image, np.uint8).reshape(36, 44, 1)
        for path in data.glob("*-train.tfrecord-*")
        for record in map(decode, read_records(path))
    }
    for line in lines:
        found = re.fullmatch(
            r"(.+), copy (\d): turned by .*; exponent ([\d.]+), contrast x ([\d.]+), "
            r"brightness ([-+\d.]+) of 255; matrix \[(.*)\]",
            line,
        )
        name, copy, exponent, gain, bias, matrix = found.groups()
        values = np.array([[float(value) for value in row.split()] for row in matrix.split("; ")])
        transform = Transform(values, float(gain), float(bias), float(exponent))
        expected = records[name, int(copy)].astype(int)
        shown = apply_transform(records[name, 0], transform).astype(int)
        assert abs(shown - expected).max() <= 2  # printed digits
        assert abs(records[name, 0] - expected).max() > 20


def test_a_page_that_cannot_be_written(run_command, data):
    done = run_command("tfrecords.show", f"--data={data}", f"--html={data}/none/page.html")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --html={data}/none/page.html: cannot be written: No such file")


def test_outputs_that_are_no_files(run_command, data, tmp_path):
    """Standard output has the page alone, and a link stays."""
    (tmp_path / "link.png").symlink_to("sheet.png")
    done = run_command("tfrecords.show", f"--data={data}", f"--png={tmp_path}/link.png", "--html=/dev/stdout")
    assert done.returncode == 0, done.stderr
    assert (done.stdout[:15].lower(), done.stdout.rstrip()[-7:]) == ("<!doctype html>", "</html>")
    assert done.stderr.splitlines()[-2:] == [f"contact sheet: {tmp_path}/link.png", "page: /dev/stdout"]
    assert (tmp_path / "link.png").is_symlink()
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def no_manifest(data):
    (data / "manifest.json").unlink()
    return f"{data}: no manifest.json in it, 3 shards: not a finished conversion; make the data set with\n"


def missing_shard(data):
    (data / "chest_xray-val.tfrecord-00000-of-00001").unlink()
    return f"{data}/chest_xray-val.tfrecord-00000-of-00001: the shard is missing; restore it or convert again"


def cut_shard(data):
    path = data / "chest_xray-train.tfrecord-00000-of-00001"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    return f"{path}: the shard has {size - 1} bytes, the manifest says {size}; restore it or convert again"


def damaged_shard(data):
    path = data / "chest_xray-train.tfrecord-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    return f"{path}: record 0 at byte 0 has damaged data (CRC mismatch); convert again"


def other_schema(data):
    path = data / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"schema": 99}))
    return (
        f"{path}: schema 99 found, this version reads 1 to 2; use the version that wrote it, or convert the "
        f"images again"
    )


@pytest.mark.parametrize("harm", [no_manifest, missing_shard, cut_shard, damaged_shard, other_schema])
def test_harmed_data(run_command, data, harm):
    message = harm(data)
    done = run_command("tfrecords.show", f"--data={data}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert list(data.glob("*.png")) == []
