"""A run with a function of the user's own, from the command line: trained, evaluated, predicted."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.stops]

_HERE = Path(__file__).parents[1]


def test_a_function_is_trained_evaluated_and_predicted(converted, image_folder, run_command, tmp_path):
    run = tmp_path / "run"
    flags = ("--model=own_model:net", "--model_args=units=4", "--epochs=1", "--global_batch_size=8")
    done = run_command("trainer.main", f"--data={converted}", f"--run_dir={run}", *flags, cwd=_HERE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    done = run_command("trainer.evaluate", f"--run_dir={run}", "--split=val", cwd=_HERE)
    assert done.returncode == 0, done.stderr
    done = run_command("trainer.predict", f"--run_dir={run}", str(image_folder), cwd=_HERE)
    assert done.returncode == 0, done.stderr
