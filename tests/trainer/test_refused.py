"""What a training cannot be started with ends the command, and harms nothing."""

import json
import re
import shutil

import pytest
from run_directories import contents

from tfrecords.manifest import Manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broken_data(converted, tmp_path_factory):
    """name -> a copy of the data set, damaged in that way."""

    def make(name):
        folder = tmp_path_factory.mktemp("broken") / "data"
        shutil.copytree(converted, folder)
        shard = folder / Manifest.load(converted).split("train").shards[0].name
        manifest = folder / "manifest.json"
        if name == "manifest missing":
            manifest.unlink()
        elif name == "shard missing":
            shard.unlink()
        elif name == "shard cut":
            shard.write_bytes(shard.read_bytes()[:-7])
        elif name == "another schema":
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": 99}))
        elif name == "folder missing":
            shutil.rmtree(folder)
        return folder, shard

    return make


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("manifest missing", "{folder}: no manifest.json in it, "),
        ("shard missing", "{shard}: the shard is missing; restore it or convert again with --overwrite"),
        ("shard cut", "{shard}: the shard has "),
        ("another schema", "{folder}/manifest.json: schema 99 found, this version reads "),
        (
            "folder missing",
            "{folder}: no such folder; make the data set with\n  python -m tfrecords.convert ",
        ),
    ],
)
def test_data_that_cannot_be_read_ends_the_command(broken_data, run_command, tmp_path, damage, message):
    folder, shard = broken_data(damage)
    done = run_command("trainer.main", f"--data={folder}", f"--run_dir={tmp_path / 'run'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message.format(folder=folder, shard=shard)}")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_data_is_verified_when_asked(broken_data, run_command, tmp_path, facts):
    """A flipped bit changes no size: only the hashes show it before training."""
    folder, shard = broken_data("nothing yet")
    val = folder / Manifest.load(folder).split("val").shards[0].name
    for path in (shard, val):
        content = bytearray(path.read_bytes())
        content[500] ^= 1
        path.write_bytes(content)
    done = run_command("trainer.main", f"--data={folder}", f"--run_dir={tmp_path / 'run'}", "--verify_data")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(
            f"error: {folder}: 2 problems:\n"
            f"  {shard}: its SHA-256 is not the manifest's\n"
            f"  {val}: its SHA-256 is not the manifest's\n"
            f"Restore these files, or convert again with --overwrite.\n"
        ),
        done.stderr,
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.storm
@pytest.mark.stops
def test_sound_data_trains_as_without_being_verified(trained, run_command, tmp_path):
    """Asked of one start, the flag is no part of the run: it goes on without it."""
    run = shutil.copytree(trained.folder, tmp_path / "run")
    (run / "model.keras").unlink()
    flags = (f"--data={trained.data}", f"--run_dir={run}", *trained.flags)
    done = run_command("trainer.main", *flags, "--verify_data")
    assert (done.returncode, done.stderr) == (0, "")
    assert (run / "model.keras").exists()
    assert "verify" not in (run / "config.json").read_text()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model=vgg", "error: --model=vgg: must be one of mlp, cnn, best_cnn, resnet, or keras:NAME"),
        ("--strategy=tpu", "value should be one of <one_device|mirrored|multi_worker>"),
        ("--learning_rate=high", "flag --learning_rate=high"),
        ("--learning_rate=-1", "error: --learning_rate=-1.0: must be more than 0"),
        ("--devices=0,x", "error: --devices=0,x: must be whole numbers, as 0,1"),
        ("--momentum=0.9", "Unknown command line flag 'momentum'"),
        ("extra", "error: unexpected argument 'extra'"),
    ],
)
def test_flags_that_cannot_be_meant_end_the_command(converted, run_command, tmp_path, flag, message):
    done = run_command("trainer.main", f"--data={converted}", f"--run_dir={tmp_path / 'run'}", flag)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


_REFUSED = """
import json, sys
from pathlib import Path
from tfrecords.errors import InputError
from trainer.config import TrainConfig
from trainer.training import train

for changes in json.loads(sys.argv[3]):
    config = TrainConfig.of(data=sys.argv[1], run_dir=sys.argv[2], logical_cpus=2, **changes)
    try:
        train(config)
    except InputError as error:
        print(json.dumps([str(error), Path(config.run_dir).exists()]))
"""


def test_what_cannot_be_trained_is_refused_before_a_run_directory_is_made(converted, tmp_path, run_python):
    cases = [
        {"strategy": "mirrored", "global_batch_size": 33},
        {"strategy": "mirrored", "global_batch_size": 1},
        {"strategy": "mirrored", "devices": [0, 5]},
        {"global_batch_size": 1000, "last_batch": "drop"},
    ]
    done = run_python("-c", _REFUSED, converted, tmp_path / "run", json.dumps(cases))
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    records = Manifest.load(converted).split("train").records
    parts = "must be a multiple of the 2 replicas, so that each gets an equal part; for example"
    assert found == [
        [f"--global_batch_size=33: {parts} 32", False],
        [f"--global_batch_size=1: {parts} 2", False],
        ["--devices=0,5: no CPU 5; there are 2: 0, 1 (--logical_cpus=N splits a CPU)", False],
        [
            f"--global_batch_size=1000: split 'train' has {records} records, so --last_batch=drop leaves no "
            f"step; use --last_batch=wrap or a smaller batch",
            False,
        ],
    ]


def test_a_run_of_another_configuration_ends_the_command_and_is_not_harmed(trained, run_command, facts):
    before = contents(trained.folder)
    flags = (flag for flag in trained.flags if not flag.startswith("--learning_rate"))
    done = run_command("trainer.main", f"--data={trained.data}", f"--run_dir={trained.folder}", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(
            f"error: --run_dir={trained.folder}: holds a run of another configuration (--learning_rate=0.003 "
            f"there, --learning_rate=0.001 now); choose another --run_dir, or give the same flags to resume\n"
        ),
        done.stderr,
    )
    assert contents(trained.folder) == before


def test_what_another_version_wrote_ends_the_commands(trained, converted, run_command, tmp_path):
    """A field of a run, an option of a data set, that this version does not know."""
    run = shutil.copytree(trained.folder, tmp_path / "run")
    values = json.loads((run / "config.json").read_text())
    values["config"]["parse_batch"] = 32
    (run / "config.json").write_text(json.dumps(values))
    command = ("trainer.main", f"--data={trained.data}", f"--run_dir={run}", *trained.flags)
    for done in (run_command(*command), run_command("trainer.evaluate", f"--run_dir={run}")):
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(
            f"error: {run / 'config.json'}: is damaged or of another version (it has "
        )
        assert "'parse_batch', which this version does not know" in done.stderr
    data = shutil.copytree(converted, tmp_path / "data")
    settings = {"plan": Manifest.load(data).plan, "options": {"parse_batch": 32}, "found": {}}
    (data / "pipeline.json").write_text(json.dumps(settings))
    done = run_command("trainer.main", f"--data={data}", f"--run_dir={tmp_path / 'other'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: {data / 'pipeline.json'}: has the option 'parse_batch', allowed are "
    )
    assert f"\n  python -m data_pipeline.tune --data={data}" in done.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("module", ["trainer.evaluate", "trainer.predict"])
def test_a_folder_without_a_run_ends_the_command(run_command, tmp_path, module):
    files = ["image.png"] if module == "trainer.predict" else []
    done = run_command(module, f"--run_dir={tmp_path}", *files)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: --run_dir={tmp_path}: ")
    assert "no config.json" in done.stderr
