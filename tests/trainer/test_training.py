"""The commands of a run as processes of their own: what a run leaves, resuming, evaluation, errors."""

import csv
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from tfrecords.manifest import Manifest
from tfrecords.progress import duration
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.evaluation.epoch_metrics import EpochMetrics
from trainer.evaluation.metric_table import OF_AN_EPOCH, PREFIX, names
from trainer.models.registry import build_model
from trainer.optimisation.optimizer import learning_rate

pytestmark = pytest.mark.slow

TIMES = {"images_per_second", "input_wait"}  # what differs between two runs that are the same
OF_TRAIN = names(OF_AN_EPOCH)
COLUMNS = [*OF_TRAIN, *(PREFIX + name for name in OF_TRAIN), "learning_rate", *sorted(TIMES)]


def history(folder):
    return json.loads((folder / "history.json").read_text())


def figures(folder):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in history(folder)]


def epoch_steps(data, batch):
    return -(-Manifest.load(data).split("train").records // batch)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_run_directory_has_all_and_no_leftovers(trained):
    names = {path.relative_to(trained.folder).as_posix() for path in trained.folder.rglob("*")}
    assert {name for name in names if "/" not in name} == {
        "config.json",
        "checkpoints",
        "tensorboard",
        "history.csv",
        "history.json",
        "model.keras",
        "report",
        "result.json",
    }
    assert {f"report/test/{name}" for name in ("report.html", "report.json", "predictions.csv")} <= names
    assert not [name for name in names if ".tmp" in name or Path(name).name.startswith(".")]
    steps = epoch_steps(trained.data, 32)
    best = Checkpoints(trained.folder / "checkpoints", *_cnn()).state(3 * steps).best_epoch
    kept = [path.name for path in sorted((trained.folder / "checkpoints").iterdir())]
    assert kept == [f"step-{epoch * steps:010d}" for epoch in sorted({best, 2, 3})]
    values = json.loads((trained.folder / "config.json").read_text())
    assert TrainConfig.from_json(values["config"]) == TrainConfig(
        data=str(trained.data),
        run_dir=str(trained.folder),
        epochs=3,
        precision="float32",
        learning_rate=0.003,
        deterministic=True,
    )


def test_what_is_printed(trained):
    lines = trained.output.splitlines()
    manifest = Manifest.load(trained.data)
    assert lines[0] == f"data       chest_xray: {trained.data}"
    assert "precision  float32: as asked for" in lines
    assert "strategy   one_device: 1 replica (CPU:0)" in lines
    assert "seed       0, deterministic" in lines
    assert f"train {manifest.split('train').records}, val" in lines[1]
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line[:12] for line in epochs] == ["epoch   1/3 ", "epoch   2/3 ", "epoch   3/3 "]
    for line, row in zip(epochs, history(trained.folder), strict=True):
        assert f"loss {row['loss']:.4f} acc {row['accuracy']:.4f} auc {row['auc']:.4f} |" in line
        assert f"val loss {row['val_loss']:.4f}" in line
    assert epochs[-1].endswith(f"at most {duration(0)} left")
    assert lines[-5:] == [
        f"model:  {trained.folder}/model.keras",
        f"report: {trained.folder}/report/test/report.html",
        "Next:",
        f"  tensorboard --logdir={trained.folder}",
        f"  python -m trainer.predict --run_dir={trained.folder} IMAGE_OR_FOLDER",
    ]


def test_history_has_a_row_an_epoch_in_both_files(trained):
    rows = history(trained.folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert set(row) == {"epoch", *COLUMNS}
        assert row["learning_rate"] == pytest.approx(0.003)
    with (trained.folder / "history.csv").open() as file:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)] == rows


def _cnn():
    model, optimizer = build_model("cnn", (24, 32, 1), 2, dtype="float32"), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    return model, optimizer


def test_the_model_has_the_weights_of_the_best_epoch(trained):
    model, optimizer = _cnn()
    meters = tf.Variable(tf.zeros([0, 0]), shape=[None, None])
    checkpoints = Checkpoints(trained.folder / "checkpoints", model, optimizer, meters=meters)
    losses = [row["val_loss"] for row in history(trained.folder)]
    best = checkpoints.state(3 * epoch_steps(trained.data, 32)).best_epoch
    assert best == 1 + int(np.argmin(losses))
    checkpoints.restore(best * epoch_steps(trained.data, 32))
    saved = keras.models.load_model(trained.folder / "model.keras", safe_mode=True)
    for ours, theirs in zip(saved.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    report = json.loads((trained.folder / "report" / "test" / "report.json").read_text())
    assert report["best_epoch"] == best


def events(folder):
    """Tag to [(step, tensor)] of all events of a TensorBoard run."""
    found = EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()
    return {
        tag: [(e.step, tf.make_ndarray(e.tensor_proto)) for e in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }


def test_tensorboard_has_all_that_was_watched(trained):
    rows, root = history(trained.folder), trained.folder / "tensorboard"
    for part, prefix in (("train", ""), ("validation", "val_")):
        found = events(root / part)
        for name in ("loss", "accuracy", "auc"):
            assert [step for step, _ in found[f"epoch_{name}"]] == [0, 1, 2]
            expected = [row[prefix + name] for row in rows]
            assert [float(value) for _, value in found[f"epoch_{name}"]] == pytest.approx(expected, rel=1e-6)
    found = events(root / "train")
    for name in ("learning_rate", "images_per_second", "input_wait"):
        expected = [row[name] for row in rows]
        assert [float(value) for _, value in found[f"epoch_{name}"]] == pytest.approx(expected, rel=1e-6)
    ((_, text),) = events(root / "config")["config"]
    assert "| precision | float32: as asked for |" in text.item().decode()
    found = events(root / "report")
    for name in ("confusion_matrix", "roc", "precision_recall"):
        ((step, picture),) = found[f"test/report/{name}"]
        assert step == json.loads((trained.folder / "result.json").read_text())["epoch"]
        assert picture[2].startswith(b"\x89PNG")  # after width and height
    ((_, counts),) = found["test/PNEUMONIA/pr_curves"]
    assert counts.shape[0] == 6
    assert counts[0, 0] == Manifest.load(trained.data).split("test").records_per_class[1]
    report = json.loads((trained.folder / "report" / "test" / "report.json").read_text())
    auroc = report["decisions"]["default"]["estimates"]["auroc"]["value"]
    assert float(found["test/report/auroc"][0][1]) == pytest.approx(auroc)


def test_the_same_command_again_finds_all_done(trained, run_command, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    again = run_command("trainer.main", f"--data={trained.data}", f"--run_dir={folder}", *trained.flags)
    assert again.returncode == 0, again.stderr
    assert "finished after epoch 3 of at most 3" in again.stdout
    assert "\nepoch " not in again.stdout
    assert again.stdout.splitlines()[-5:] == [
        line.replace(str(trained.folder), str(folder)) for line in trained.output.splitlines()[-5:]
    ]
    assert history(folder) == history(trained.folder)
    name = "report/test/predictions.csv"
    assert (folder / name).read_bytes() == (trained.folder / name).read_bytes()


def test_the_model_is_the_best_epochs_and_not_the_lasts(trained, run_command, tmp_path):
    """The last checkpoint says which epoch is the best: here it is made to say the one before."""
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    before, last = sorted((folder / "checkpoints").iterdir())[-2:]
    best = {"best_epoch": 2, "best_step": int(before.name.removeprefix("step-")), "best_loss": 0.5}
    for path in (before, last):  # as both say in a run whose second epoch was its best
        state = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps(state | best))
    (folder / "result.json").unlink()  # as if it had been killed before it published anything
    (folder / "model.keras").unlink()
    again = run_command("trainer.main", f"--data={trained.data}", f"--run_dir={folder}", *trained.flags)
    assert again.returncode == 0, again.stderr
    assert "best epoch 2: validation loss 0.5000\n" in again.stdout
    saved = keras.models.load_model(folder / "model.keras").get_weights()
    model, optimizer = build_model("cnn", (24, 32, 1), 2, dtype="float32"), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    of_step = {}
    for path in (before, last):
        tf.train.Checkpoint(model=model).read(str(path / "variables")).expect_partial()
        of_step[path] = model.get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(saved, of_step[before], strict=True))
    assert not all(np.array_equal(one, other) for one, other in zip(saved, of_step[last], strict=True))
    report = json.loads((folder / "report" / "test" / "report.json").read_text())
    assert report["best_epoch"] is not None


@pytest.mark.stops
def test_evaluate_needs_the_run_directory_alone(trained, run_command, tmp_path):
    folder = tmp_path / "elsewhere"
    shutil.copytree(trained.folder, folder)
    shutil.rmtree(folder / "report")
    shutil.rmtree(folder / "checkpoints")
    done = run_command("trainer.evaluate", f"--run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == f"report: {folder}/report/test/report.html"
    table = done.stdout.strip().rsplit("\n\n", 1)[0]
    assert table in trained.output
    name = "report/test/predictions.csv"
    assert (folder / name).read_bytes() == (trained.folder / name).read_bytes()


def test_evaluate_of_another_split(trained, run_command, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    before = contents(folder / "report" / "test")
    done = run_command("trainer.evaluate", f"--run_dir={folder}", "--split=val")
    assert done.returncode == 0, done.stderr
    records = Manifest.load(trained.data).split("val").records
    assert done.stdout.startswith(f"val: {records} records of ")
    with (folder / "report" / "val" / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == records
    assert contents(folder / "report" / "test") == before


def test_predict_prints_a_line_a_file_and_writes_the_table(trained, run_command, image_folder, tmp_path):
    with (trained.folder / "report" / "test" / "predictions.csv").open() as file:
        evaluated = {str(image_folder / row["id"]): row for row in csv.DictReader(file)}
    out = tmp_path / "answers.csv"
    done = run_command("trainer.predict", f"--run_dir={trained.folder}", f"--csv={out}", *evaluated)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    with out.open() as file:
        table = csv.DictReader(file)
        rows = list(table)
    assert table.fieldnames == ["file", "predicted", "probability_NORMAL", "probability_PNEUMONIA", "error"]
    assert [row["file"] for row in rows] == list(evaluated)
    for line, row in zip(lines[:-1], rows, strict=True):
        expected = evaluated[row["file"]]
        both = [float(row[f"probability_{name}"]) for name in ("NORMAL", "PNEUMONIA")]
        assert both == pytest.approx(
            [float(expected[f"probability_{name}"]) for name in ("NORMAL", "PNEUMONIA")], abs=1e-6
        )
        assert row["predicted"] == expected["predicted"]
        probability = both[row["predicted"] == "PNEUMONIA"]
        assert line == f"{row['file']}\t{row['predicted']}\t{probability:.4f}"
    assert lines[-1] == f"{len(rows)} rows: {out}"


def test_predict_names_a_bad_image_and_goes_on(trained, run_command, image_folder, tmp_path):
    bad = tmp_path / "bad.png"
    Image.new("L", (30, 30)).save(bad)
    bad.write_bytes(bad.read_bytes()[:-30])
    good = next(image_folder.rglob("*.jpeg"))
    done = run_command("trainer.predict", f"--run_dir={trained.folder}", "--csv=-", bad, good)
    assert done.returncode == 3, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["file", str(bad), str(good)]
    assert done.stderr.startswith(f"left out: {bad}: ")
    assert "1 of 2 files were left out" in done.stderr.splitlines()[-1]


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


@pytest.mark.stops
@pytest.mark.storm
def test_augmented_training_is_the_same_for_one_device_and_for_two(converted, run_command, tmp_path):
    """Same variants, same draws: the losses differ by rounding only."""
    flags = (f"--data={converted}", "--model=mlp", "--epochs=1", "--precision=float32", "--deterministic")
    histories = []
    for name, devices in (("one", ()), ("two", ("--strategy=mirrored", "--logical_cpus=2"))):
        run = tmp_path / name
        done = run_command(
            "trainer.main", *flags, f"--run_dir={run}", "--augment=strong", "--copies=one", *devices
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "; one variant of each image an epoch; changed anew each epoch: strong\n" in done.stdout
        histories.append([row["loss"] for row in json.loads((run / "history.json").read_text())])
    plain = run_command("trainer.main", *flags, f"--run_dir={tmp_path / 'plain'}", "--copies=one")
    assert plain.returncode == 0
    assert "changed anew" not in plain.stdout
    unchanged = [row["loss"] for row in json.loads((tmp_path / "plain" / "history.json").read_text())]
    assert histories[0] == pytest.approx(histories[1], rel=1e-4)
    assert histories[0] != pytest.approx(unchanged, rel=1e-2)


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


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({}, {0: 0.01, 40: 0.01}),
        # Half a period of a cosine, from --learning_rate down to 0.
        ({"schedule": "cosine"}, {0: 0.01, 20: 0.005, 30: 0.01 * (0.5 - 0.5**1.5), 40: 0.0}),
        # First up in a line, step by step; then the cosine over what is left.
        (
            {"schedule": "cosine", "warmup_epochs": 2},
            {0: 0.0, 5: 0.0025, 20: 0.01, 30: 0.005, 35: 0.01 * (0.5 - 0.5**1.5), 40: 0.0},
        ),
    ],
)
def test_the_learning_rate_follows_the_schedule(changes, rates):
    config = TrainConfig(data="", run_dir="", epochs=4, learning_rate=0.01, **changes)
    optimizer = keras.optimizers.Adam(learning_rate(config, 10))
    for step, rate in rates.items():
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate, rel=1e-5, abs=1e-9)


@pytest.mark.storm
@pytest.mark.stops
def test_the_end_of_a_cosine_is_not_moved_by_a_resumed_run(converted, run_command, tmp_path):
    command = ("trainer.main", f"--data={converted}", f"--run_dir={tmp_path / 'run'}", "--model=mlp")
    done = run_command(
        *command, "--schedule=cosine", "--warmup_epochs=1", "--epochs=2", "--precision=float32"
    )
    assert (done.returncode, done.stderr) == (0, "")
    words = "mlp, Adam 0.001 by cosine over 2 epochs, 1 of warm-up, global batch 32"
    assert f"model      {words}" in done.stdout
    assert history(tmp_path / "run")[-1]["learning_rate"] == 0.0
    again = run_command(
        *command, "--schedule=cosine", "--warmup_epochs=1", "--epochs=3", "--precision=float32"
    )
    assert (again.returncode, again.stdout) == (2, "")
    assert "another configuration (--epochs=2 there, --epochs=3 now); choose another" in again.stderr


STREAMED = (
    "--model=mlp",
    "--epochs=12",
    "--patience=12",
    "--global_batch_size=4",
    "--precision=float32",
    "--deterministic",
    "--cache=stream",
    "--keep=99",
    "--checkpoint_steps=4",
    "--checkpoint_minutes=0",
)


@pytest.mark.stops
@pytest.mark.storm
def test_a_shard_harmed_while_it_is_trained_on_is_named_and_the_run_goes_on(train, converted, tmp_path):
    """Each harm is done as soon as its process has written a checkpoint; the shard is read each epoch."""
    data, kept = tmp_path / "data", tmp_path / "kept"
    shutil.copytree(converted, data)
    shard = data / Manifest.load(data).split("train").shards[0].name
    shutil.copy(shard, kept)

    def flip_a_bit():
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)

    whole, harmed = tmp_path / "whole" / "run", tmp_path / "harmed" / "run"
    for folder in (whole, harmed):
        folder.parent.mkdir()
    last = 0
    for harm, message in (
        (shard.unlink, f"error: {shard}: the shard is missing; "),
        (flip_a_bit, f"error: {shard}: record "),
    ):
        process = train(data, harmed, STREAMED)
        while process.poll() is None and steps_in(harmed)[-1] <= last:
            time.sleep(0.001)
        harm()
        printed = process.communicate()[0]
        assert process.returncode == 2, printed
        assert printed.splitlines()[-1].startswith(message)
        assert "Traceback" not in printed
        assert steps_in(harmed)[-1] > last
        last = steps_in(harmed)[-1]
        shutil.copy(kept, shard)
    for folder in (harmed, whole):
        process = train(data, folder, STREAMED)
        printed = process.communicate()[0]
        assert process.returncode == 0, printed
        assert ("resuming after epoch" in printed) == (folder == harmed)
    assert figures(harmed) == figures(whole)
    assert steps_in(harmed) == steps_in(whole)
    for name in {f"step-{last:010d}", f"step-{steps_in(whole)[-1]:010d}"}:
        refuse_other_tensors(*(folder / "checkpoints" / name for folder in (harmed, whole)))


def steps_in(run):
    """The steps there is a checkpoint of, after a 0."""
    folder = run / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return [0, *sorted(int(name.removeprefix("step-")) for name in names if name.startswith("step-"))]


def refuse_other_tensors(mine, other):
    """Returns the shapes of the tensors of two checkpoints, which must be the same to the bit."""
    ours, theirs = (tf.train.load_checkpoint(place / "variables") for place in (mine, other))
    shapes = theirs.get_variable_to_shape_map()
    assert ours.get_variable_to_shape_map() == shapes
    for key in shapes.keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        assert np.array_equal(ours.get_tensor(key), theirs.get_tensor(key)), (mine.name, key)
    return shapes


RESUMED = (
    "--model=resnet",  # BatchNormalization and Dropout
    "--schedule=cosine",
    "--warmup_epochs=1",
    "--epochs=9",
    "--patience=2",
    "--min_delta=5",  # more than a loss near ln 2 can fall: only epoch 1 counts as better, so 3 is the last
    "--global_batch_size=4",
    "--precision=float32",
    "--deterministic",
    "--keep=9",
    "--checkpoint_steps=4",
    "--checkpoint_minutes=0",
)


@pytest.fixture
def train(start):
    """Starts a training that prints all that it says at once."""

    def begin(data, folder, flags=RESUMED):
        return start(
            *("-m", "trainer.main", f"--data={data}", f"--run_dir={folder}", *flags),
            env={"PYTHONUNBUFFERED": "1"},
            cwd=folder.parent,
            stderr=subprocess.STDOUT,
        )

    return begin


def kill_at(process, folder, name):
    """Kills the process when there is a checkpoint of this name."""
    while process.poll() is None and not (folder / "checkpoints" / name).exists():
        time.sleep(0.001)
    assert process.poll() is None, process.stdout.read()
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.storm
@pytest.mark.stops
def test_a_run_killed_twice_in_mid_epoch_ends_as_one_that_was_not(train, converted, tmp_path):
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    for folder in (whole, killed):
        folder.parent.mkdir()
    steps = epoch_steps(converted, 4)
    assert steps % 4  # so that the multiples of 4 below are in mid-epoch
    first, second = (next(s for s in range(4, 99, 4) if s > epoch * steps) for epoch in (0, 1))

    kill_at(train(converted, killed), killed, f"step-{first:010d}")
    assert not (killed / "history.json").exists()  # in the first epoch
    # While a checkpoint of the second epoch is being written.
    kill_at(train(converted, killed), killed, f".step-{second:010d}.tmp")
    assert not (killed / "model.keras").exists()
    outputs = []
    for folder in (killed, whole):
        process = train(converted, folder)
        outputs.append(process.communicate()[0])
        assert process.returncode == 0, outputs[-1]
    assert "resuming after epoch 1" in outputs[0]
    assert "resuming" not in outputs[1]

    rows = figures(whole)
    assert figures(killed) == rows
    assert len(rows) == 3  # a run that forgot its early stopping goes on longer
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == names
    for name in names:
        places = [folder / "checkpoints" / name for folder in (killed, whole)]
        shapes = refuse_other_tensors(*places)
        assert len([key for key in shapes if key.startswith("seeds/")]) == 1  # of Dropout
        assert len([key for key in shapes if key.startswith("optimizer/")]) > 2 * 30  # Adam's moments
        sums = sum(np.prod(each.shape, dtype=int) for each in EpochMetrics(2).sums)
        assert shapes["meters/.ATTRIBUTES/VARIABLE_VALUE"] == [1, sums]
        states = [json.loads((place / "state.json").read_text()) for place in places]
        for state in states:
            state["history"] = [{k: v for k, v in r.items() if k not in TIMES} for r in state["history"]]
        assert states[0] == states[1]
    models = [keras.models.load_model(folder / "model.keras", safe_mode=True) for folder in (killed, whole)]
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        assert np.array_equal(ours, theirs)
    name = "report/test/predictions.csv"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()


_READS = """
import os, runpy, sys

def note(event, args):
    if event == "open" and str(args[0]) in files and "r" in str(args[1] or "r"):
        read.append(os.path.basename(args[0]))

read, files = [], sys.argv[1].split(",")
sys.argv = ["trainer.main", *sys.argv[2:]]
sys.addaudithook(note)
leave = os._exit
os._exit = lambda code: (print("read:", *sorted(read), flush=True), leave(code))
runpy.run_module("trainer.main", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_what_a_finished_run_and_its_data_are_is_read_once(trained, run_python):
    files = f"{trained.folder / 'config.json'},{trained.data / 'manifest.json'}"
    flags = (f"--data={trained.data}", f"--run_dir={trained.folder}", *trained.flags)
    done = run_python("-c", _READS, files, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "read: config.json manifest.json"
