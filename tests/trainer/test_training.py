"""The commands of a run as processes of their own: what a run leaves, evaluation, prediction."""

import csv
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from run_directories import TIMES, contents, epoch_steps, history
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from tfrecords.manifest import Manifest
from tfrecords.progress import duration
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.evaluation.metric_table import OF_AN_EPOCH, PREFIX, names
from trainer.models.registry import build_model
from trainer.optimisation.optimizer import learning_rate

pytestmark = pytest.mark.slow

OF_TRAIN = names(OF_AN_EPOCH)
COLUMNS = [*OF_TRAIN, *(PREFIX + name for name in OF_TRAIN), "learning_rate", *sorted(TIMES)]


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
