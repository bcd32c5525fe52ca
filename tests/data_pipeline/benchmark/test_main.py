"""The command as a process of its own, and what it writes."""

import json
import shutil

import pytest

from data_pipeline.benchmark.stages import LIMIT, STAGES

pytestmark = pytest.mark.slow


@pytest.mark.stops
def test_the_table_the_figures_and_the_picture(data, run_command, tmp_path):
    flags = ("--seconds=5", "--repeats=2", "--global_batch_size=16", f"--out={tmp_path / 'out'}")
    done = run_command("data_pipeline.benchmark", f"--data={data.directory}", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "out" / "benchmark.json").read_bytes())
    assert found.keys() == {"facts", "stages", "tier", "step", "diagnosis"}
    assert [row["stage"] for row in found["stages"]] == [*STAGES, *STAGES[-2:], LIMIT]
    assert found["tier"]["name"] == "memory"
    for row in found["stages"]:
        assert row["images_per_second"] > 0
        assert f"{row['images_per_second']:,.0f}" in done.stdout
    assert len(found["step"]["real_seconds"]) == 2
    assert found["diagnosis"]["sentence"] in done.stdout
    assert all(advice in done.stdout for advice in found["diagnosis"]["advice"])
    assert (tmp_path / "out" / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["benchmark.json", "benchmark.png"]


@pytest.mark.stops
def test_without_a_model_and_with_what_was_tuned(harmed, run_command, tmp_path):
    settings = {"plan": harmed.manifest.plan, "options": {"cache": "stream", "prefetch": 2}, "found": {}}
    (harmed.directory / "pipeline.json").write_text(json.dumps(settings))
    flags = ("--seconds=5", "--repeats=1", "--model=none")
    done = run_command("data_pipeline.benchmark", f"--data={harmed.directory}", *flags, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (out,) = tmp_path.glob("benchmark-*-train")
    found = json.loads((out / "benchmark.json").read_bytes())
    assert (found["step"], found["diagnosis"], found["tier"]["name"]) == (None, None, "stream")
    assert found["facts"]["input"].endswith("pipeline.json: --cache=stream --prefetch=2")
    shutil.rmtree(out)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seconds=1"], "error: --seconds=1: must be 5 or more; 45 is usual"),
        (["--seconds=nan"], "error: --seconds=nan: must be 5 or more"),
        (["--repeats=0"], "flag --repeats=0: "),
        (["--split=dev"], "error: split 'dev' is not in data set"),
        (["--global_batch_size=0"], "error: --global_batch_size=0: must be 1 or more"),
        (["--model=vgg"], "error: --model=vgg: must be cnn, none, a .keras file or the folder"),
        (["--cache=fast"], "flag --cache=fast: "),
        (["--out=FILE"], "error: --out=FILE: cannot be made: File exists; choose another folder"),
        (["more"], "error: unexpected argument 'more'"),
    ],
)
def test_nonsense_is_refused(data, run_command, tmp_path, flags, message):
    (tmp_path / "FILE").touch()
    done = run_command("data_pipeline.benchmark", f"--data={data.directory}", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
