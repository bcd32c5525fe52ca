"""What Hyperband promotes goes on where it was, to the bit."""

import json
import os

import keras
import numpy as np
import pytest

from trainer.tune.process import EXECUTION, command
from trainer.tune.search import Search

pytestmark = [pytest.mark.slow, pytest.mark.stops]

TRAIN = (
    *("--model=mlp", "--epochs=9", "--precision=float32", "--threads_per_process=1"),
    *("--global_batch_size=8", "--patience=99"),
)


@pytest.mark.storm
def test_a_promotion_of_one_three_nine_epochs_is_nine_in_one_go(converted, run_command, run_python, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {type: float, min: 1e-3, max: 1e-2, log: true}\n")
    folder, flags = tmp_path / "search", (f"--data={converted}", *TRAIN)
    begin = (*flags, f"--space={space}", f"--search_dir={folder}", "--oracle=random", "--max_trials=3")
    done = run_command("trainer.tune", *begin, "--keep_trials=all", "--workers=0")
    assert done.returncode == 0, done.stderr
    # A line of promotions, as Hyperband makes one in the end of a bracket.
    (folder / "journal" / "journal.jsonl").unlink()
    line = [
        {
            "event": "created",
            "values": {"learning_rate": 0.002},
            "by": "promoted" if number else "drawn",
            "epochs": epochs,
            "goes_on_with": number - 1 if number else None,
            "oracle": {},
        }
        for number, epochs in enumerate((1, 3, 9))
    ]
    search = Search.load(folder)
    with search.journal.lease() as lease:
        lease.append(line)
    for number in range(3):
        _, *arguments = command(EXECUTION, folder, number, 0, 0.0)
        done = run_python(*arguments[:-1], os.getpid())
        assert done.returncode == 0, done.stderr
        assert ("resuming after epoch" in done.stdout) == (number > 0)
    promoted = folder / "trials" / "0002" / "execution-0"
    config = json.loads((promoted / "config.json").read_text())["config"]
    whole = tmp_path / "whole"
    chosen = (f"--{name}={config[name]}" for name in ("cache", "learning_rate", "seed"))
    done = run_command("trainer.main", *flags, f"--run_dir={whole}", "--deterministic", *chosen)
    assert done.returncode == 0, done.stderr
    weights = (keras.models.load_model(run / "model.keras").get_weights() for run in (promoted, whole))
    for one, other in zip(*weights, strict=True):
        assert np.array_equal(one, other)
    rows, others = (
        [
            {name: value for name, value in row.items() if name not in ("images_per_second", "input_wait")}
            for row in json.loads((run / "history.json").read_text())
        ]
        for run in (promoted, whole)
    )
    assert rows == others
    assert search.order(search.journal.read()).trials[2].score == min(row["val_loss"] for row in rows)
