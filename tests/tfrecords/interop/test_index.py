import json
import re
import shutil
from importlib.util import find_spec

import pytest

from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.example import decode
from tfrecords.interop.index import index_name, index_of
from tfrecords.manifest import Manifest
from tfrecords.records import frame, read_records
from tfrecords.verification.data_set import verify

OPTIONS = {"size": (64, 56), "shard_size": 1 << 16, "workers": 1}


# A process of its own, for the tfrecord package defines tf.train.Example as TensorFlow does.
READ = """
import json, sys
from pathlib import Path
sys.modules["torch"] = None  # of no use here, and slow to import
import tfrecord
data, theirs = map(Path, sys.argv[1:])
for index in sorted((data / "index").iterdir()):
    tfrecord.tools.create_index(str(data / index.stem), str(theirs / index.name))
    for workers in (1, 3):
        for worker in range(workers):
            for one in tfrecord.tfrecord_loader(str(data / index.stem), str(index), shard=(worker, workers)):
                record = [bytes(one["image"]).hex(), one["label"].tolist(), bytes(one["id"]).decode()]
                print(json.dumps([index.stem, workers, *record]))
"""


@pytest.fixture(scope="module")
def data(image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("indexed") / "data"
    convert_images(ConvertOptions(image_folder, out, **OPTIONS, dali_index=True))
    return out


@pytest.fixture(scope="module")
def plain(image_folder, tmp_path_factory):
    """The same without index files."""
    out = tmp_path_factory.mktemp("plain") / "data"
    convert_images(ConvertOptions(image_folder, out, **OPTIONS))
    return out


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stamps(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def shards_of(data):
    return [shard for split in Manifest.load(data).splits.values() for shard in split.shards]


def spans_of(data, shard):
    lines = (data / index_name(shard.name)).read_text().splitlines()
    return [tuple(map(int, line.split(" "))) for line in lines]


def test_each_record_is_where_its_index_says(data):
    shards = shards_of(data)
    assert len(shards) > 3
    assert {path.name for path in (data / "index").iterdir()} == {f"{shard.name}.idx" for shard in shards}
    for shard in shards:
        whole, spans = (data / shard.name).read_bytes(), spans_of(data, shard)
        framed = [frame(record) for record in read_records(data / shard.name)]
        assert [whole[offset : offset + size] for offset, size in spans] == framed
        assert sum(size for _, size in spans) == shard.bytes
        assert len(spans) == shard.records


@pytest.mark.skipif(find_spec("tfrecord") is None, reason="no tfrecord package: the extra `interop` has it")
def test_the_tfrecord_package_reads_each_record_once_by_its_index(data, run_python, tmp_path):
    """By one worker and by three, which share the records of a shard."""
    command = ("-c", READ, data, tmp_path)
    done = run_python(*command)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path) == content(data / "index")  # its own tfrecord2idx finds the same
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [name, workers, record.image.hex(), [record.label], record.id.decode()]
        for name in sorted(shard.name for shard in shards_of(data))
        for workers in (1, 3)
        for record in map(decode, read_records(data / name))
    ]


def test_index_files_are_all_that_the_flag_adds(data, plain):
    with_index = content(data)
    assert {name: text for name, text in with_index.items() if not name.startswith("index/")} == content(
        plain
    )
    assert not (plain / "index").exists()


def test_the_flag_may_come_later(run_command, image_folder, data, plain, tmp_path):
    out = shutil.copytree(plain, tmp_path / "data")
    before = stamps(out)
    arguments = (f"--images={image_folder}", f"--out={out}", "--size=64x56", "--shard_size=64KB")
    done = run_command("tfrecords.convert", *arguments, "--dali_index")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out}: complete already, all shards kept\n")
    assert content(out) == content(data)
    assert {name: stamp for name, stamp in stamps(out).items() if name != "index"} == before


def test_another_plan_leaves_no_index_behind(image_folder, data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    (out / "index" / ".x-val.tfrecord-00000-of-00001.idx.4000000.tmp").write_bytes(b"left by a kill")
    options = {"size": (20, 20), "workers": 1}
    convert_images(ConvertOptions(image_folder, out, **options, overwrite=True))
    convert_images(ConvertOptions(image_folder, tmp_path / "fresh", **options))
    assert content(out) == content(tmp_path / "fresh")
    assert not (out / "index").exists()


def test_a_file_of_another_in_the_index_folder_is_kept(image_folder, data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    (out / "index" / "notes.txt").write_text("mine")
    convert_images(ConvertOptions(image_folder, out, size=(20, 20), workers=1, overwrite=True))
    assert {path.name for path in (out / "index").iterdir()} == {"notes.txt"}


@pytest.mark.parametrize("flag", [False, True])
def test_stopped_while_the_index_was_written(image_folder, data, plain, tmp_path, flag, facts):
    """What an unfinished conversion left of an index is neither trusted nor left lying."""
    out = tmp_path / "data"
    out.mkdir()
    (out / "plan.json").write_text('{"plan": "none"}')
    (out / "index").write_text("in the way")
    options = ConvertOptions(image_folder, out, **OPTIONS, dali_index=True)
    with pytest.raises(InputError) as caught:
        convert_images(options)
    assert re.search(
        facts(f"{out}/index: cannot be made: File exists; make room or choose another folder"),
        str(caught.value),
    )
    assert not (out / "manifest.json").exists()
    (out / "index").unlink()
    (out / "index").mkdir()
    names = [shard.name for shard in shards_of(data)]
    (out / index_name(names[0])).write_bytes(b"0 1\n")
    (out / "index" / f".{names[1]}.idx.4000000.tmp").write_bytes(b"left by a kill")
    convert_images(ConvertOptions(image_folder, out, **OPTIONS, dali_index=flag))
    assert content(out) == content(data if flag else plain)
    assert (out / "index").exists() == flag


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda path: path.unlink(), "is not there or cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "is not as it was written"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n")),
            "is not as it was written",
        ),
    ],
)
def test_verify_names_a_harmed_index(data, tmp_path, harm, what):
    out = shutil.copytree(data, tmp_path / "data")
    path = out / index_name(shards_of(out)[1].name)
    harm(path)
    assert verify(out, workers=1) == [
        f"{path}: {what}; run the same conversion again with --dali_index to write it"
    ]


def test_verify_names_an_index_of_nothing(data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    path = out / "index" / "chest_xray-train.tfrecord-00007-of-00000.idx"
    path.write_text("0 5\n")
    assert verify(out, workers=1) == [
        f"{path}: is an index of a shard that is not in the manifest; remove it"
    ]


def test_a_harmed_shard_is_named_once_and_not_its_index(data, tmp_path):
    out = shutil.copytree(data, tmp_path / "data")
    shard = shards_of(out)[0]
    (out / shard.name).write_bytes((out / shard.name).read_bytes()[:-5])
    problems = verify(out, workers=1)
    assert problems
    assert all(problem.startswith(f"{out / shard.name}: ") for problem in problems)


def test_the_index_of_a_cut_shard_is_refused(data, tmp_path):
    path = tmp_path / "shard"
    path.write_bytes((data / shards_of(data)[0].name).read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: record \d+ at byte \d+ is cut: "):
        index_of(path)
