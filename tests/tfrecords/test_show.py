import json
import shutil

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def converted(run_command, image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "data"
    done = run_command(
        "tfrecords.convert", f"--images={image_folder}", f"--out={out}", "--size=40", "--copies=2"
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
    for flag in ("--data", "--split", "--count", "--png"):
        assert f"\n  {flag}: " in done.stdout


def test_the_manifest_in_words_and_a_sheet(run_command, data):
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    done = run_command("tfrecords.show", f"--data={data}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "chest_xray: 40x40x1 raw, 2 augmented copies of each train image, seed 0"
    assert [line.split()[0] for line in lines[1:5]] == ["split", "train", "val", "test"]
    assert lines[5] == (
        "copies: flip 0.5, rotation 10.0, zoom 0.1, crop 0.1, translation 0.05, brightness 0.1, "
        "contrast 0.15, fill reflect"
    )
    assert lines[6].startswith("written with numpy ")
    assert "pillow " in lines[6]
    assert lines[7:] == [f"contact sheet: {data}/contact_sheet_train.png"]
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
    return f"{path}: schema 99 found, this version reads 1; convert the images again with this version"


@pytest.mark.parametrize("harm", [no_manifest, missing_shard, cut_shard, damaged_shard, other_schema])
def test_harmed_data(run_command, data, harm):
    message = harm(data)
    done = run_command("tfrecords.show", f"--data={data}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert list(data.glob("*.png")) == []
