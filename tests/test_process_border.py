"""What both sides of a process border must know is written down once, in docs/architecture.md."""

import os
import re
from pathlib import Path

from launch import devices, exits
from launch.slurm.options import Job
from launch.slurm.script import render
from tfrecords import command, progress
from trainer.lock import LOCK_NAME
from trainer.run import BASELINE_MODEL_NAME, CONFIG_NAME, MODEL_NAME, RESULT_NAME
from trainer.tune.local import gpus_here

TEXT = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()


def test_exit_codes():
    rows = re.findall(r"^\| (\d+) \| (.+?) \| ?(.*?) ?\|$", TEXT, re.MULTILINE)
    meaning = {int(code): text for code, text, _ in rows}
    assert set(meaning) == {0, 1, 2, 3, 75, 76, 77, 130}
    names = ("BAD_INPUT", "STOPPED", "PEER_LOST", "NOT_FINITE", "INTERRUPTED")
    assert {name: getattr(command, name) for name in names} == {name: getattr(exits, name) for name in names}
    for code, word in (
        (command.BAD_INPUT, "bad input"),
        (command.LEFT_OUT, "left out"),
        (command.STOPPED, "SIGTERM"),
        (command.PEER_LOST, "lost"),
        (command.NOT_FINITE, "not finite"),
        (command.INTERRUPTED, "Ctrl-C"),
    ):
        assert word in meaning[code]
    again = {int(code) for code, _, what in rows if "all of them" in what}
    assert again == {code for code in meaning if exits.starts_again(code)}


def test_progress(tmp_path, monkeypatch, capsys):
    file = tmp_path / "progress"
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, str(file))
    assert f"`{progress.PROGRESS_VARIABLE}`" in TEXT
    script = render(Job(("x",), Path("/"), "python"), "x")
    assert f'export {progress.PROGRESS_VARIABLE}="$logs/progress"' in script
    progress.tell_launcher("step 7")
    assert file.read_text() == "step 7\n"
    file.unlink()
    monkeypatch.setenv(progress.PROGRESS_VARIABLE, str(tmp_path / "gone" / "progress"))
    progress.tell_launcher("step 8")  # what was saved is saved all the same
    assert "gone/progress: cannot be written" in capsys.readouterr().err
    monkeypatch.delenv(progress.PROGRESS_VARIABLE)
    progress.tell_launcher("step 9")
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_run():
    for name in (BASELINE_MODEL_NAME, CONFIG_NAME, LOCK_NAME, MODEL_NAME, RESULT_NAME):
        assert f"`{name}`" in TEXT


def test_launchers_and_searches_count_gpus_alike(tmp_path, monkeypatch):
    """Neither may import the other, so each has the few lines that ask the driver."""
    listing = (
        "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb (UUID: MIG-2)\nGPU 1: NVIDIA H200 (UUID: GPU-3)"
    )
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && echo '{listing}'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus_here() == devices._gpus() == ["0", "1"]
    smi.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_here() == devices._gpus() == []
