"""A run keeps the tier of its first start, and all tiers that hold the split train the same."""

import json
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
from run_directories import open_run

from data_pipeline.tiers import device_tables
from data_pipeline.tiers.choice import ChosenTier
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer import training
from trainer.config import TrainConfig
from trainer.run import Run
from trainer.tiers import (
    choose_train_tier,
    distributed_table,
    processes_here,
    run_data,
    with_weights_file,
)

_SCRIPT = Path(__file__).with_name("tier_losses.py")


@pytest.fixture
def manifest(converted):
    return Manifest.load(converted)


@pytest.fixture
def config(converted, tmp_path):
    return TrainConfig.of(
        data=str(converted), run_dir=str(tmp_path / "run"), cache_dir=str(tmp_path / "cache")
    )


@pytest.fixture
def strategy():
    return tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.mark.parametrize(
    ("first", "budgets", "name"),
    [("auto", (0, 1), "memory"), ("auto", (1, 0), "stream"), ("device", (0, 0), "device")],
)
def test_a_run_keeps_the_tier_of_its_first_start(config, manifest, strategy, first, budgets, name):
    start, later = (config.changed(ram_budget=budget) for budget in budgets)
    tier = choose_train_tier(start.changed(cache=first), manifest, strategy)
    assert tier.name == name
    open_run(start.changed(cache=first), manifest, {}, write=True, tier=tier)
    assert choose_train_tier(later, manifest, strategy, tier) == tier
    other = replace(later, run_dir=config.run_dir + "2")  # not for want of a difference
    assert choose_train_tier(other, manifest, strategy).name == ("stream" if budgets[1] else "memory")


def test_a_sampled_run_is_held_and_keeps_its_tier(config, manifest, strategy):
    config = config.changed(sampling="group")
    tier = choose_train_tier(config, manifest, strategy)
    assert tier.name == "memory"
    assert choose_train_tier(config.changed(ram_budget=1), manifest, strategy).name == "disk"
    assert choose_train_tier(config.changed(ram_budget=1), manifest, strategy, tier) == tier
    # Validation is one pass, from any tier.
    data = run_data(config.changed(ram_budget=1), manifest, strategy, tier)
    assert len(next(iter(data.val()))["label"]) == config.pipeline.global_batch_size


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("id,weight\na.png,many\n", "line 2: id 'a.png': weight 'many'"),
        ("id,weight\na.png,1\n", "1 of its 1 ids are of no image in split 'train': a.png"),
    ],
)
def test_a_bad_file_of_weights_is_refused_before_anything_is_made(config, tmp_path, content, said):
    if content:
        (tmp_path / "w.csv").write_text(content)
    config = config.changed(sampling=str(tmp_path / "w.csv"))
    with pytest.raises(InputError, match=f"--sampling={tmp_path}/w.csv: .*{said}"):
        run_data(with_weights_file(config), Manifest.load(config.data), None, ChosenTier("memory", 1, 1))
    assert not Path(config.run_dir).exists()


def test_a_file_of_weights_that_has_changed_is_another_run(config, manifest, tmp_path):
    config = config.changed(sampling=str(tmp_path / "w.csv"))
    (tmp_path / "w.csv").write_text("id,weight\na.png,1\n")
    first = with_weights_file(config)
    assert with_weights_file(first) == with_weights_file(config) == first
    open_run(first, manifest, {}, write=True)
    (tmp_path / "w.csv").write_text("id,weight\na.png,2\n")
    with pytest.raises(InputError, match=r"--sampling=.*w\.csv: has other content now"):
        training.train(config, lambda _: None, manifest=manifest)
    natural = config.changed(sampling="natural", sampling_sha256=first.sampling_sha256)
    assert with_weights_file(natural).sampling_sha256 == ""


@pytest.mark.parametrize("names", [("memory", "disk"), ("disk", "device"), ("auto", "memory")])
def test_tiers_of_one_order_may_take_each_others_place(config, manifest, strategy, names):
    for name in (*names, *names[::-1]):
        asked = config.changed(cache=name)
        tier = choose_train_tier(asked, manifest, strategy)
        open_run(asked, manifest, {}, write=True, tier=tier)
        assert Run.load(Path(config.run_dir)).tier == tier
        assert name in {"auto", tier.name}


@pytest.mark.parametrize(("there", "now"), [("stream", "memory"), ("memory", "stream"), ("device", "stream")])
def test_a_stream_and_another_tier_may_not(config, manifest, strategy, there, now):
    for cache in (there, now):
        asked = config.changed(cache=cache)
        tier = choose_train_tier(asked, manifest, strategy)
        if cache == there:
            open_run(asked, manifest, {}, write=True, tier=tier)
    with pytest.raises(InputError) as caught:
        open_run(asked, manifest, {}, write=True, tier=tier)
    assert f"(--cache={there} there, --cache={now} now)" in str(caught.value)


@pytest.mark.parametrize(("there", "now"), [("off", "stream"), ("off", "off"), ("stream", "off")])
def test_off_is_the_former_name_of_stream(config, manifest, strategy, there, now):
    asked = config.changed(cache=now)
    tier = choose_train_tier(asked, manifest, strategy)
    run = open_run(asked, manifest, {}, write=True, tier=tier)
    path = run.folder / "config.json"
    values = json.loads(path.read_text())
    assert (values["config"]["cache"], values["tier"]["name"]) == ("stream", "stream")
    values["config"]["cache"] = there
    path.write_text(json.dumps(values))
    assert open_run(asked, manifest, {}, write=True, tier=tier).config == Run.load(run.folder).config
    assert json.loads(path.read_text())["config"]["cache"] == "stream"


def test_a_tier_of_another_version_is_named(config, manifest):
    path = open_run(config, manifest, {}, write=True, tier=ChosenTier("memory", 1, 1)).folder / "config.json"
    path.write_text(path.read_text().replace('"memory"', '"tape"'))
    with pytest.raises(
        InputError, match=r"config\.json: .*--cache=tape: must be one of device, disk, memory, "
    ):
        Run.load(path.parent)


def test_a_run_of_a_version_that_kept_no_tier_goes_on(config, manifest, strategy):
    path = open_run(config, manifest, {}, write=True).folder / "config.json"
    values = json.loads(path.read_text())
    assert values.pop("tier") is None
    path.write_text(json.dumps(values))
    assert Run.load(path.parent).tier is None
    assert choose_train_tier(config, manifest, strategy, None).name == "memory"


def test_devices_too_small_are_refused_before_anything_is_made(config, manifest, strategy, monkeypatch):
    monkeypatch.setattr(device_tables, "free_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"--cache=device: split 'train' has .* MB decoded, and each device"):
        choose_train_tier(config.changed(cache="device"), manifest, strategy)
    assert choose_train_tier(config, manifest, strategy).name == "memory"  # never a device on a CPU
    assert not Path(config.run_dir).exists()


@pytest.mark.parametrize(("name", "there"), [("memory", False), ("stream", False), ("device", True)])
def test_only_the_device_tier_has_a_table(config, manifest, strategy, name, there):
    table = distributed_table(config, manifest, strategy, ChosenTier(name, 1, 1))
    assert (table is not None) == there
    if there:
        assert table["image"].shape == (manifest.split("train").records, 24, 32, 1)


@pytest.mark.parametrize(
    ("cluster", "task", "processes"),
    [
        ({"worker": ["a:1", "a:2", "b:1"]}, ("worker", 0), 2),
        ({"worker": ["a:1", "a:2", "b:1"]}, ("worker", 2), 1),
        ({"chief": ["a:1"], "worker": ["a:2", "b:1"]}, ("chief", 0), 2),
        ({"worker": ["[::1]:1", "[::1]:2"]}, ("worker", 1), 2),
        ({}, ("", 0), 1),
    ],
)
def test_the_workers_of_a_machine_are_counted(cluster, task, processes):
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster), task_type=task[0], task_id=task[1]
    )
    assert processes_here(SimpleNamespace(cluster_resolver=resolver)) == processes


def test_a_strategy_of_one_process_is_one(strategy):
    assert processes_here(strategy) == 1


@pytest.fixture(scope="module")
def train(converted, start_for_module, tmp_path_factory):
    """Trains under a strategy from one tier after the other; returns what each of its workers found."""

    def run(strategy, *caches, workers=0):
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            cluster = {"worker": [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]}
        tasks = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(workers)]
        folder = tmp_path_factory.mktemp("tiers")
        processes = [
            start_for_module(
                _SCRIPT,
                converted,
                folder,
                strategy,
                *caches,
                env={"TF_CONFIG": json.dumps(task)} if task else {},
                cwd=folder,
            )
            for task in tasks or [None]
        ]
        outputs = [process.communicate() for process in processes]
        for process, (_, errors) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, errors
        return [json.loads(output.splitlines()[-1]) for output, _ in outputs]

    return run


@pytest.mark.stops
@pytest.mark.slow
def test_one_device_trains_the_same_from_all_tiers(train):
    (found,) = train("one_device", "memory", "disk", "device", "stream", "auto")
    assert {name: one.pop("tier") for name, one in found.items()} == {
        **{name: name for name in ("memory", "disk", "device", "stream")},
        "auto": "memory",
    }
    stream = found.pop("stream")
    assert stream["weights"] != found["memory"]["weights"]  # it is another order
    assert len({one["weights"] for one in found.values()}) == 1
    assert all(one == found["memory"] for one in found.values())


@pytest.mark.stops
@pytest.mark.slow
def test_mirrored_replicas_train_the_same_from_their_devices(train):
    (found,) = train("mirrored", "memory", "device")
    assert [one.pop("tier") for one in found.values()] == ["memory", "device"]
    assert found["device"] == found["memory"]


@pytest.mark.slow
@pytest.mark.stops
@pytest.mark.storm
def test_workers_train_the_same_from_their_devices_and_choose_together(train):
    both = train("multi_worker", "memory", "device", "auto", "poor", workers=2)
    for found in both:
        # Two processes of one machine share a file; where one must stream, both do.
        assert [one.pop("tier") for one in found.values()] == ["memory", "device", "disk", "stream"]
        assert found["device"] == found["auto"] == found["memory"]
        assert found["poor"]["weights"] != found["memory"]["weights"]
    assert both[0] == both[1]
