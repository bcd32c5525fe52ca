"""What Hyperband promotes goes on where it was, to the bit."""

import json
import shutil

import keras
import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.stops]

TRAIN = ("--model=mlp", "--precision=float32", "--threads_per_process=1", "--global_batch_size=8")


def test_a_promotion_of_one_three_nine_epochs_is_nine_in_one_go(converted, run_command, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {type: float, min: 1e-3, max: 1e-2, log: true}\n")
    folder = tmp_path / "search"
    flags = (f"--data={converted}", f"--space={space}", *TRAIN, "--epochs=9", "--oracle=hyperband")
    keep = ("--keep_trials=all", "--final=none", "--max_trials=13", "--parallel=1", "--patience=99")
    done = run_command("trainer.tune", *flags, *keep, f"--search_dir={folder}", "--workers=1")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in (folder / "journal" / "journal.jsonl").read_text().splitlines()]
    trials = [event for event in events if event["event"] == "created"]
    (last,) = [
        number
        for number, trial in enumerate(trials)
        if trial["epochs"] == 9 and trial["goes_on_with"] is not None
    ]
    line = [last]
    while (parent := trials[line[-1]]["goes_on_with"]) is not None:
        line.append(parent)
    assert [trials[number]["epochs"] for number in line] == [9, 3, 1]
    promoted = folder / "trials" / f"{last:04d}" / "execution-0"
    config = json.loads((promoted / "config.json").read_text())["config"]
    whole = tmp_path / "whole"
    done = run_command(
        "trainer.main",
        f"--data={converted}",
        f"--run_dir={whole}",
        *TRAIN,
        "--epochs=9",
        "--patience=99",
        "--deterministic",
        f"--cache={config['cache']}",
        f"--learning_rate={config['learning_rate']}",
        f"--seed={config['seed']}",
    )
    assert done.returncode == 0, done.stderr
    for mine, theirs in zip(
        *(keras.models.load_model(run / "model.keras").get_weights() for run in (promoted, whole)),
        strict=True,
    ):
        assert np.array_equal(mine, theirs)
    rows, others = (
        [
            {name: value for name, value in row.items() if name not in ("images_per_second", "input_wait")}
            for row in json.loads((run / "history.json").read_text())
        ]
        for run in (promoted, whole)
    )
    assert rows == others
    shutil.rmtree(folder)
