import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
from dataclasses import asdict

import pytest

from tfrecords.convert.engines import Engine, jobs_of, layout_digest, parse_task
from tfrecords.convert.locks import TASK_LOCKS, conversion_lock, task_lock
from tfrecords.convert.options import ConvertOptions
from tfrecords.convert.shards import ImageJob, ShardJob
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest

# 8 shards of the 60 images: the least size of a shard, and images large enough for more than one.
FLAGS = ("--size=96x90", "--shard_size=64KB", "--copies=1")
TASKS = 3


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def local(run_command, image_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("local") / "data"
    done = run_command("tfrecords.convert", f"--images={image_folder}", f"--out={out}", *FLAGS)
    assert done.returncode == 0, done.stderr
    assert len([name for name in content(out) if ".tfrecord-" in name]) >= 8
    return content(out)


@pytest.fixture
def convert(run_command, image_folder):
    def run(out, *arguments):
        return run_command(
            "tfrecords.convert", f"--images={image_folder}", f"--out={out}", *FLAGS, *arguments
        )

    return run


@pytest.fixture
def begin(image_folder, start):
    """Starts a conversion and does not wait."""

    def begin(out, *arguments):
        return start(
            "-m", "tfrecords.convert", f"--images={image_folder}", f"--out={out}", *FLAGS, *arguments
        )

    return begin


@pytest.mark.parametrize(("text", "task"), [("0/1", (0, 1)), ("7/8", (7, 8)), (" 0/12 ", (0, 12))])
def test_parse_task(text, task):
    assert parse_task(text) == task


@pytest.mark.parametrize("text", ["", "1", "1/", "/2", "-1/2", "a/b", "1/2/3", "1.0/2"])
def test_what_is_no_task(text, facts):
    expected = f"--task={text}: must be I/N with I from 0 to N - 1, as 0/8 to 7/8"
    with pytest.raises(InputError, match=facts(expected)):
        parse_task(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "spark"}, "--engine=spark: must be one of local, beam"),
        ({"beam_args": "--x"}, "--beam_args=--x: need --engine=beam; add it, or leave out --beam_args"),
        ({"task": (2, 2)}, "--task=2/2: must be I/N with I from 0 to N - 1, as 0/8 to 7/8"),
        ({"task": (0, 0)}, "--task=0/0: must be I/N with I from 0 to N - 1, as 0/8 to 7/8"),
        (
            {"task": (0, 2), "finish": True},
            "--task with --finish or --engine=beam: a task writes its shards with the cores of its own "
            "machine, and --finish comes once, after all tasks; leave one of them out",
        ),
        (
            {"finish": True, "name": "beam"},
            "--finish with --engine=beam: beam finishes the conversion itself; leave --finish out",
        ),
    ],
)
def test_engines_that_cannot_be(values, message, facts):
    with pytest.raises(InputError) as caught:
        Engine(**values)
    assert re.search(facts(message), str(caught.value))


@pytest.mark.parametrize(("engine", "flag"), [({"task": (0, 2)}, "--task"), ({"finish": True}, "--finish")])
def test_tasks_do_not_overwrite(tmp_path, engine, flag, facts):
    with pytest.raises(InputError) as caught:
        ConvertOptions(tmp_path, tmp_path, overwrite=True, engine=Engine(**engine))
    assert re.search(
        facts(
            f"--overwrite with {flag}: tasks share the folder, and one cannot replace what the others write; "
            f"choose another --out"
        ),
        str(caught.value),
    )


@pytest.mark.parametrize(("jobs", "tasks"), [(25, 4), (4, 4), (3, 5), (7, 1)])
def test_each_job_is_of_one_task(jobs, tasks):
    dealt = [jobs_of((task, tasks), range(jobs)) for task in range(tasks)]
    assert sorted(number for own in dealt for number in own) == list(range(jobs))
    assert all(number % tasks == task for task, own in enumerate(dealt) for number in own)


def test_the_layout_digest_is_that_of_the_json_in_one_piece():
    jobs = [
        ShardJob(
            f"s{n}", "train", tuple(ImageJob(f'a/\udce9"{i}', "é", 1, i, "g") for i in range(3)), n, (1, n)
        )
        for n in range(3)
    ]
    facts = {"schema": 1, "classes": ("a", "z"), "rendering": {"shape": (1, 2, 3)}, "versions": {"x": "1"}}
    whole = json.dumps({**facts, "jobs": [asdict(job) for job in jobs]}, sort_keys=True)
    assert layout_digest(facts, jobs) == hashlib.sha256(whole.encode()).hexdigest()
    assert layout_digest(facts, jobs[:-1]) != layout_digest(facts, jobs)


@pytest.mark.slow
def test_tasks_at_once_and_finish_make_the_local_bytes(begin, convert, local, tmp_path):
    out = tmp_path / "data"
    tasks = [begin(out, f"--task={task}/{TASKS}", "--workers=1") for task in range(TASKS)]
    for number, task in enumerate(tasks):
        said, errors = task.communicate()
        assert task.returncode == 0, errors
        shards = len(range(number, len([name for name in local if ".tfrecord-" in name]), TASKS))
        assert said == (
            f"{out}: {shards} shards of --task={number}/{TASKS} are complete; after all tasks, run the "
            f"command once with --finish instead\n"
        )
    assert not (out / "manifest.json").exists()
    done = convert(out, "--finish")
    assert done.returncode == 0, done.stderr
    assert content(out) == local
    late = convert(out, f"--task=0/{TASKS}")  # that comes again after all
    assert late.returncode == 0, late.stderr
    assert content(out) == local


@pytest.mark.slow
def test_finish_names_what_is_missing_and_a_killed_task_runs_again(
    begin, wait_until, convert, local, tmp_path
):
    out = tmp_path / "data"
    for task in (0, 2):
        assert convert(out, f"--task={task}/{TASKS}").returncode == 0
    killed = begin(out, f"--task=1/{TASKS}", "--workers=1")
    manifest = Manifest.load(_unpacked(local, tmp_path))
    names = [shard.name for split in manifest.splits.values() for shard in split.shards][1::TASKS]
    wait_until(lambda: any((out / name).exists() for name in names) or killed.poll() is not None, "a shard")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    gone = names[-1]
    (out / gone).unlink(missing_ok=True)  # were it too fast to be killed in the middle
    refused = convert(out, "--finish")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --finish: ")
    assert gone in refused.stderr
    assert refused.stderr.endswith(f"; run again --task=1/{TASKS}, then --finish again\n")
    assert not (out / "manifest.json").exists()
    assert convert(out, f"--task=1/{TASKS}").returncode == 0
    assert convert(out, "--finish").returncode == 0
    assert content(out) == local


@pytest.mark.slow
def test_one_machine_finishes_what_tasks_began(convert, local, tmp_path):
    out = tmp_path / "data"
    assert convert(out, f"--task=0/{TASKS}").returncode == 0
    assert convert(out).returncode == 0
    assert content(out) == local


@pytest.mark.slow
def test_tasks_agree_on_one_plan(convert, tmp_path, facts):
    out = tmp_path / "data"
    assert convert(out, f"--task=0/{TASKS}").returncode == 0
    before = content(out)
    other = convert(out, f"--task=1/{TASKS}", "--seed=1")
    assert other.returncode == 2
    assert re.search(
        facts(
            f"error: --out={out}: holds a conversion of other images or with other options; choose another "
            f"--out; all tasks of a plan need the same images and options\n"
        ),
        other.stderr,
    )
    number = convert(out, "--task=1/4")
    assert number.returncode == 2
    assert re.search(
        facts(
            f"error: --task=1/4: {out} is written by {TASKS} tasks; give the same number, or "
            f"finish it on one machine with the same command without --task\n"
        ),
        number.stderr,
    )
    assert content(out) == before


def test_a_folder_of_something_else_is_refused(convert, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = convert(tmp_path, "--task=0/2")
    assert done.returncode == 2
    assert f"--out={tmp_path}: is not empty (mine.txt) and holds no conversion" in done.stderr
    assert content(tmp_path) == {"mine.txt": b"mine"}


@pytest.mark.slow
def test_a_repaired_image_is_found_by_finish(run_command, image_folder, tmp_path):
    images, out = tmp_path / "images", tmp_path / "data"
    for path in image_folder.rglob("*.*"):
        (images / path.relative_to(image_folder)).parent.mkdir(parents=True, exist_ok=True)
        (images / path.relative_to(image_folder)).write_bytes(path.read_bytes())

    def convert(*arguments, out=out):
        return run_command("tfrecords.convert", f"--images={images}", f"--out={out}", *FLAGS, *arguments)

    for task in range(TASKS):
        assert convert(f"--task={task}/{TASKS}").returncode == 0
    first = sorted(images.rglob("*.jpeg"))[0]
    os.utime(first, ns=(0, 0))
    again = convert(f"--task=0/{TASKS}")
    assert again.returncode == 2
    assert "images have other sizes or modification times than for the first task" in again.stderr
    finish = convert("--finish")
    assert finish.returncode == 2
    task = re.search(r"1 of \d+ shards are missing: .*; run again (--task=\d/3), then", finish.stderr)[1]
    assert convert(task).returncode == 0
    assert convert("--finish").returncode == 0
    assert convert(out=tmp_path / "fresh").returncode == 0
    assert content(out) == content(tmp_path / "fresh")


HOLD = """
import sys
from pathlib import Path
from tfrecords.convert.locks import conversion_lock, task_lock
out, task = Path(sys.argv[1]), sys.argv[2:]
with task_lock(out, *map(int, task)) if task else conversion_lock(out):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold(start, tmp_path):
    """Holds a lock of `tmp_path` in a process of its own."""

    def begin(*task):
        process = start("-c", HOLD, tmp_path, *task, stdin=subprocess.PIPE)
        assert process.stdout.readline() == "held\n"
        return process

    return begin


def test_who_may_work_beside_whom(hold, tmp_path):
    task = hold(1, 3)
    with task_lock(tmp_path, 0, 3):
        pass
    for lock in (lambda: task_lock(tmp_path, 1, 3), lambda: conversion_lock(tmp_path)):
        with (
            pytest.raises(InputError, match=f"another conversion runs there .*process {task.pid}"),
            lock(),
        ):
            pass
    task.kill()
    task.wait()
    assert [path.name for path in tmp_path.glob(TASK_LOCKS)] == ["convert-1-of-3.lock"]
    with conversion_lock(tmp_path):  # takes away what the dead one left
        assert list(tmp_path.glob(TASK_LOCKS)) == []
    whole = hold()
    with (
        pytest.raises(InputError, match=f"another conversion runs there .*process {whole.pid}"),
        task_lock(tmp_path, 0, 3),
    ):
        pass
    whole.kill()
    whole.wait()
    with task_lock(tmp_path, 0, 3):
        pass


def test_a_task_takes_over_from_a_dead_one_elsewhere_and_others_do_not(tmp_path):
    lock = tmp_path / "convert-0-of-2.lock"
    lock.write_text("host elsewhere, process 7\n")
    with (
        pytest.raises(InputError, match=r"convert-0-of-2.lock: left by a conversion on another host"),
        conversion_lock(tmp_path),
    ):
        pass
    assert lock.exists()
    with task_lock(tmp_path, 0, 2):
        assert f"process {os.getpid()}" in lock.read_text()
    assert list(tmp_path.iterdir()) == []


def _unpacked(files, folder):
    for name, data in files.items():
        path = folder / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "unpacked"


@pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None, reason="the extra `beam` is not installed"
)
class TestBeam:
    RUNNER = (
        "--engine=beam",
        "--beam_args=--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing",
    )

    def test_the_local_bytes(self, convert, local, tmp_path):
        out = tmp_path / "data"
        done = convert(out, *self.RUNNER)
        assert done.returncode == 0, done.stderr
        assert content(out) == local

    def test_what_is_whole_is_kept(self, convert, local, tmp_path):
        out = tmp_path / "data"
        assert convert(out, f"--task=0/{TASKS}").returncode == 0
        before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tfrecord-*-of-?????")}
        assert before
        assert convert(out, *self.RUNNER).returncode == 0
        assert content(out) == local
        assert {name: (out / name).stat().st_mtime_ns for name in before} == before

    def test_a_bad_image_is_named(self, run_command, image_folder, tmp_path):
        for path in image_folder.rglob("*.*"):
            (tmp_path / "images" / path.relative_to(image_folder)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / path.relative_to(image_folder)).write_bytes(path.read_bytes())
        bad = sorted((tmp_path / "images").rglob("*.jpeg"))[3]
        bad.write_bytes(bad.read_bytes()[:400])
        arguments = (f"--images={tmp_path / 'images'}", f"--out={tmp_path / 'data'}", *FLAGS, *self.RUNNER)
        done = run_command("tfrecords.convert", *arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].startswith(f"error: {bad}: ")
        assert not (tmp_path / "data" / "manifest.json").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is not None, reason="the extra `beam` is installed"
)
def test_without_beam_the_error_tells_what_to_install(convert, tmp_path):
    done = convert(tmp_path / "data", "--engine=beam")
    assert done.returncode == 2
    assert "install the extra `beam`: pip install 'shardlight[beam]'" in done.stderr
