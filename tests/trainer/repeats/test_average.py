"""Several seeds by the real command: killed in the second one, averaged, evaluated and predicted."""

import json
import shutil
import signal

import keras
import numpy as np
import pytest

from tfrecords.manifest import Manifest
from trainer.evaluation.data import DataSet, predict_split
from trainer.inference import Predictor
from trainer.run import SEEDS_NAME, Run

pytestmark = [pytest.mark.slow, pytest.mark.stops]

FLAGS = (
    *("--model=mlp", "--model_args=units=8", "--epochs=3", "--global_batch_size=4", "--precision=float32"),
    *("--deterministic", "--threads_per_process=2", "--checkpoint_steps=2", "--temperature=2", "--seeds=3,5"),
)


@pytest.fixture(scope="module")
def averaged(converted, tmp_path_factory, run_command):
    folder = tmp_path_factory.mktemp("seeds") / "run"
    done = run_command("trainer.main", f"--data={converted}", f"--run_dir={folder}", *FLAGS)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def weights(folder):
    return keras.models.load_model(folder / "model.keras", compile=False).get_weights()


def test_its_probabilities_are_the_means_of_those_of_the_seeds(averaged, converted):
    folder, _ = averaged
    manifest = Manifest.load(converted)
    runs = [Run.load(folder / name) for name in ("seed-3", "seed-5")]
    assert [run.config.seed for run in runs] == [3, 5]
    home = DataSet.of(runs[0])

    def predicted(run):
        return predict_split(Predictor(run.model), home.folder, manifest, "test").probabilities

    each = [predicted(run) for run in runs]
    assert np.abs(each[0] - each[1]).max() > 1e-4
    np.testing.assert_allclose(predicted(Run.load(folder)), (each[0] + each[1]) / 2, atol=1e-6)


def test_the_figures_are_those_of_the_reports(averaged):
    folder, printed = averaged
    content = json.loads((folder / SEEDS_NAME).read_text())
    assert content["seeds"] == [3, 5]
    for name, numbers in content["metrics"].items():
        values = []
        for run in ("seed-3", "seed-5", "."):
            report = json.loads((folder / run / "report" / "test" / "report.json").read_text())
            values.append(report["decisions"]["chosen"]["estimates"][name]["value"])
        assert numbers["values"] == values[:2]
        assert numbers["averaged"] == values[2]
    assert "test of seeds 3, 5:" in printed
    assert Run.load(folder).facts["seed"].startswith("3, 5")


def test_other_commands_take_it(averaged, converted, image_folder, run_command, tmp_path):
    folder, _ = averaged
    flags = (f"--run_dir={folder}", f"--out={tmp_path / 'out'}", "--split=val")
    done = run_command("trainer.evaluate", *flags)
    assert done.returncode == 0, done.stderr
    done = run_command("trainer.predict", f"--run_dir={folder}", image_folder / "NORMAL")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 24), done.stderr
    done = run_command("trainer.runs", f"--runs={folder.parent}")
    assert [line for line in done.stdout.splitlines() if line.startswith("run/seed-5")], done.stdout
    done = run_command("trainer.main", f"--data={converted}", f"--run_dir={folder}", *FLAGS[:-1])
    assert done.returncode == 2
    assert "give --seeds" in done.stderr


@pytest.mark.storm
def test_killed_in_the_second_seed_the_same_command_ends_the_same(
    averaged, converted, start, tmp_path, wait_until, run_command
):
    folder = tmp_path / "run"
    shutil.copytree(averaged[0] / "seed-3", folder / "seed-3")  # finished
    (folder / SEEDS_NAME).write_text('{"seeds": [3, 5]}')
    command = ("-m", "trainer.main", f"--data={converted}", f"--run_dir={folder}", *FLAGS)
    process = start(*command)
    wait_until((folder / "seed-5" / "checkpoints").exists, "a checkpoint of the second seed")
    wait_until(lambda: any((folder / "seed-5" / "checkpoints").glob("step-*")), "a checkpoint")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode in (75, 0)
    assert not (folder / "model.keras").exists() or process.returncode == 0
    done = run_command(*command[1:])
    assert done.returncode == 0, done.stderr
    for name in ("seed-3", "seed-5", "."):
        for here, there in zip(weights(folder / name), weights(averaged[0] / name), strict=True):
            np.testing.assert_array_equal(here, there)
