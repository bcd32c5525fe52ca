"""The command as a process: exit codes, and that it is light."""

import pytest


@pytest.mark.slow
def test_the_table_is_printed_and_what_is_damaged_gives_exit_code_3(run_command, reported_runs, make_run):
    done = run_command("trainer.runs", f"--runs={reported_runs}", "--sort=auroc", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.index("strong") < done.stdout.index("weak")
    (make_run("a") / "config.json").write_text("{}")
    done = run_command("trainer.runs", f"--runs={make_run.root}")
    assert done.returncode == 3
    assert "config.json" in done.stderr


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--runs=nowhere", "--runs=nowhere"), ("--compare=a", "--compare=a"), ("--seed=x", "--seed")],
)
def test_bad_input_is_refused(run_command, flag, name):
    done = run_command("trainer.runs", flag)
    assert done.returncode == 2
    assert name in done.stderr


@pytest.mark.slow
def test_it_imports_no_tensorflow(run_python, reported_runs):
    script = (
        "import sys; from pathlib import Path\n"
        "from trainer.runs.listing import ListingOptions, list_runs\n"
        "from trainer.runs.comparing import CompareOptions, compare_runs\n"
        f"root = Path({str(reported_runs)!r})\n"
        "list_runs(ListingOptions(root)); compare_runs(CompareOptions(root, ('strong', 'weak')))\n"
        "assert not {'tensorflow', 'keras', 'matplotlib', 'sklearn'} & set(sys.modules), sys.modules"
    )
    done = run_python("-c", script)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_real_run(run_command, trained):
    """A run of trainer.main, listed and compared with itself."""
    done = run_command("trainer.runs", f"--runs={trained.folder}", "--csv=-")
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    found = dict(zip(head.split(","), row.split(","), strict=True))
    assert (found["state"], found["model"], found["epochs"]) == ("done", "cnn", "3")
    assert 0 <= float(found["auroc_low"]) <= float(found["auroc"]) <= float(found["auroc_high"]) <= 1
    done = run_command("trainer.runs", f"--compare={trained.folder},{trained.folder}")
    assert done.returncode == 0, done.stderr
    assert "there is no difference" in done.stdout
