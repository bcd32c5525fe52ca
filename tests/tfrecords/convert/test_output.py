"""The output folder: what is kept, what is refused, what cannot be written."""

import re
import shutil
import sys

import pytest
from converted import LONG, SIZE, SMALL, content, members, stamps, whole_shards
from PIL import Image

from tfrecords.augment import Augmentation
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError


@pytest.mark.slow
def test_a_complete_output_is_left_alone(convert, image_folder, data):
    before = stamps(data)
    for arguments in ([], ["--overwrite", "--workers=2"]):
        done = convert(image_folder, data, *SMALL, "--copies=2", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{data}: complete already, all shards kept\n")
        assert stamps(data) == before


@pytest.mark.parametrize(
    "change",
    [
        {"size": (60, 72)},
        {"channels": 3},
        {"copies": 1},
        {"encoding": "png"},
        {"seed": 1},
        {"augmentation": Augmentation(flip=0.4)},
        {"augmentation": Augmentation(fill="edge")},
        {"augmentation": Augmentation(gamma=0.3)},
        {"val_fraction": 0.3},
        {"shard_size": 1 << 20},
        {"name": "other"},
        {"group_regex": r"^(.*)\."},
    ],
)
def test_another_plan_is_refused_untouched(image_folder, data, change, facts):
    before = stamps(data)
    options = {"size": SIZE, "shard_size": 1 << 16, "copies": 2} | change
    with pytest.raises(InputError) as caught:
        convert_images(ConvertOptions(image_folder, data, **options))
    assert re.search(
        facts(
            f"--out={data}: holds a conversion of other images or with other options; choose another --out, "
            f"or replace it with --overwrite"
        ),
        str(caught.value),
    )
    assert stamps(data) == before


@pytest.mark.parametrize("change", ["added", "removed", "changed"])
def test_other_images_are_another_plan(data, images, change):
    first = sorted((images / "NORMAL").iterdir())[0]
    if change == "added":
        shutil.copy(first, images / "NORMAL" / "one more.jpeg")
    elif change == "removed":
        first.unlink()
    else:
        Image.new("L", (50, 50)).save(first)
    before = stamps(data)
    message = "1 of 60 " if change == "changed" else "other images or with other options"
    with pytest.raises(InputError, match=f"holds a conversion of .*{message}.*--overwrite"):
        convert_images(ConvertOptions(images, data, size=SIZE, shard_size=1 << 16, copies=2))
    assert stamps(data) == before


@pytest.mark.slow
def test_overwrite_replaces_and_leaves_nothing_stale(convert, image_folder, data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    (out / "notes.txt").write_text("mine")
    options = ("--size=20", "--copies=0", "--name=other")
    assert convert(image_folder, out, *options, "--overwrite").returncode == 0
    assert convert(image_folder, tmp_path / "fresh", *options).returncode == 0
    assert content(out) == content(tmp_path / "fresh") | {"notes.txt": b"mine"}


@pytest.mark.slow
def test_a_plan_without_shards_stands_in_nobodys_way(image_folder, data, tmp_path):
    out = tmp_path / "data"
    out.mkdir()
    (out / "plan.json").write_text('{"plan": "other"}')
    convert_images(ConvertOptions(image_folder, out, size=SIZE, shard_size=1 << 16, copies=2))
    assert content(out) == content(data)


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", "missing"])
def test_a_harmed_output_is_named_and_overwrite_mends_it(convert, image_folder, data, tmp_path, harm):
    out = shutil.copytree(data, tmp_path / "data")
    path = out / whole_shards(out)[1]
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    done = convert(image_folder, out, *SMALL, "--copies=2")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: the shard ")
    assert done.stderr.endswith("restore it or convert again with --overwrite\n")
    assert convert(image_folder, out, *SMALL, "--copies=2", "--overwrite").returncode == 0
    assert content(out) == content(data)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "foreign",
    [
        {"thesis.tex": b"years of work"},
        {"images-train.tfrecord-00000-of-00001": b"shards of another tool"},
        {"manifest.json": b'{"name": "a web page"}'},
        {"manifest.json": b"no JSON", "sources.csv": b"a,b"},
        {"plan.json": b"[]"},
        {"sources.csv": b"a,b"},
        {"a": b"", "b": b"", "c": b"", "d": b""},
    ],
)
def test_a_foreign_folder_is_refused_untouched(image_folder, tmp_path, foreign, overwrite, facts):
    for name, text in foreign.items():
        (tmp_path / name).write_bytes(text)
    before = stamps(tmp_path)
    with pytest.raises(InputError) as caught:
        convert_images(ConvertOptions(image_folder, tmp_path, overwrite=overwrite))
    shown = ", ".join(sorted(foreign)[:3]) + ", ..." * (len(foreign) > 3)
    assert re.search(
        facts(
            f"--out={tmp_path}: is not empty ({shown}) and holds no conversion; choose a new or empty folder"
        ),
        str(caught.value),
    )
    assert stamps(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("out", "reason"),
    [("file", "File exists"), ("file/below", "Not a directory"), ("/proc/none", "No such file or directory")],
)
def test_an_output_that_cannot_be_made(convert, image_folder, tmp_path, out, reason, facts):
    (tmp_path / "file").write_text("mine")
    done = convert(image_folder, out, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(facts(f"error: --out={out}: cannot be made or written: {reason}\n"), done.stderr)
    assert (tmp_path / "file").read_text() == "mine"


LIMITED = (
    "import os, resource, sys; size = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); os.execv(sys.argv[2], sys.argv[2:])"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "workers", "named"),
    [
        (40_000, 1, r"chest_xray-train\.tfrecord-00000-of-\d+"),
        (40_000, 2, r"chest_xray-\w+\.tfrecord-\d+-of-\d+"),
        (100, 1, r"plan\.json"),
    ],
)
def test_an_output_that_cannot_be_written(convert, image_folder, data, tmp_path, limit, workers, named):
    out = tmp_path / "data"
    arguments = (*SMALL, "--copies=2", f"--workers={workers}")
    prefix = (sys.executable, "-c", LIMITED, str(limit))
    done = convert(image_folder, out, *arguments, prefix=prefix, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 2
    message = (
        rf"^error: {re.escape(str(out))}/{named}: cannot be written: File too large; make room or choose "
    )
    assert re.search(message, done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()
    assert list(out.glob(".*")) == []
    assert convert(image_folder, out, *arguments).returncode == 0
    assert content(out) == content(data)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["sources.csv", "manifest.json"])
def test_the_last_files_that_cannot_be_written(convert, image_folder, data, tmp_path, missing):
    out = tmp_path / "data"
    out.mkdir()
    (out / "plan.json").write_text('{"plan": "none"}')
    (out / missing / "taken").mkdir(parents=True)
    done = convert(image_folder, out, *SMALL, "--copies=2")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (out / missing).is_dir()


@pytest.mark.slow
def test_too_little_room_is_seen_before_work(convert, image_folder, tmp_path):
    arguments = ("--size=8000", "--copies=100000", "--shard_size=1GB")
    done = convert(image_folder, tmp_path / "data", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        rf"error: --out={re.escape(str(tmp_path))}/data: \d+ MB are needed and \d+ MB are free; make room, "
        rf"choose another --out, or a smaller --encoding=png\n",
        done.stderr,
    )
    done = convert(image_folder, tmp_path / "data", "--size=20", "--encoding=png")  # the advice is followed
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_shard_that_was_cut_from_outside_is_written_again(
    begin, convert, image_folder, long_one, tmp_path, wait_until
):
    out = tmp_path / "data"
    process = begin()
    wait_until(lambda: len(whole_shards(out)) >= 5, "5 shards")
    process.kill()
    process.wait()
    wait_until(lambda: members(process.pid) == [], "the workers end with their parent")
    cut, *others = whole_shards(out)
    (out / cut).write_bytes((out / cut).read_bytes()[:-1000])
    kept = stamps(out)
    done = convert(image_folder, out, *LONG)
    assert done.returncode == 0, done.stderr
    assert content(out) == content(long_one)
    assert {name: stamps(out)[name] for name in others} == {name: kept[name] for name in others}


def test_a_bad_listing_makes_no_output(convert, images, tmp_path, facts):
    (images / "NORMAL" / "empty.jpeg").touch()
    done = convert(images, tmp_path / "data")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(
            f"error: {images}: 1 of 61 files in class folders cannot be used:\n"
            f"  NORMAL/empty.jpeg: the file is empty (0 bytes)\n"
            f"Repair, convert or remove them, or leave them out with --max_rejects, then run the same "
            f"command again.\n"
        ),
        done.stderr,
    )
    assert not (tmp_path / "data").exists()
