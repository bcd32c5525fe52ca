"""A step of training beside its limits and beside PyTorch, in one run.

    pip install torch                                                       (left out if it is missing)
    python -m tfrecords.convert --images=chest_xray/train --out=data/x96 --size=96 --copies=0
    python benchmarks/training.py --data=data/x96

Contenders train the same net with AdamW at the same batch size on the same number of threads, each in a
process of its own: ours as `trainer.main` trains, without and with on-line augmentation; ours on one constant
batch, so that nothing is read; PyTorch eager in bfloat16 (autocast), channels last, on one constant batch.
All of them count train steps alone. The processes take turns, one measures while the others wait; the first
turn of each warms up and does not count. Ratios are medians over turns of what was measured in the same one.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from absl import flags

from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from tfrecords.errors import InputError
from tfrecords.files.outputs import write_output

_DATA = flags.DEFINE_string("data", None, "A conversion.", required=True)
_NETS = flags.DEFINE_list("nets", ["cnn", "resnet"], "The nets.")
_AUGMENT = flags.DEFINE_string("augment", "robust", "The on-line augmentation.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Counted turns of each.", lower_bound=1)
_BATCH = flags.DEFINE_integer("global_batch_size", 32, "Images a step.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 60, "Steps a turn.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Also write the figures here.")
_CONTENDER = flags.DEFINE_string("contender", "", "What this process measures; for this program itself.")

PLAIN: Final = "ours"
AUGMENTED: Final = "ours, augmented"
CONSTANT: Final = "ours, constant input"
TORCH: Final = "PyTorch, constant input"
_RATE: Final = 1e-3
_FILTERS: Final = (16, 32, 64)
_WIDTH: Final = 32
_STAGES: Final = ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1))  # of the resnet: times the width, stride

Measure = Callable[[], float]  # () -> images a second


def main(_: list[str]) -> None:
    """Measures and prints the table; or, with --contender, measures whenever it is told to."""
    if _CONTENDER.value:
        _measure_when_told(_CONTENDER.value, _NETS.value[0])
        return
    names = [PLAIN, AUGMENTED, CONSTANT, *([TORCH] if find_spec("torch") else [])]
    rows = {net: measured(net, names) for net in _NETS.value}
    print("\n".join(_table(rows)))
    if _JSON.value:
        write_output("--json", _JSON.value, json.dumps(rows, indent=1).encode())


def measured(net: str, names: list[str]) -> dict[str, list[float]]:
    """Returns the images a second of each contender, turn by turn."""
    processes = {name: _started(net, name) for name in names}
    found: dict[str, list[float]] = {name: [] for name in names}
    try:
        for turn in range(1 + _REPEATS.value):
            for name, process in processes.items():
                value = _turn(process, name)
                if turn:
                    found[name].append(value)
    finally:
        for process in processes.values():
            process.communicate()  # its input ends, and it with it
    return found


def _started(net: str, name: str) -> "subprocess.Popen[str]":
    words = [sys.executable, __file__, f"--contender={name}", f"--nets={net}", f"--data={_DATA.value}"]
    words += [f"--augment={_AUGMENT.value}", f"--global_batch_size={_BATCH.value}", f"--steps={_STEPS.value}"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _turn(process: "subprocess.Popen[str]", name: str) -> float:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    process.stdin.write("\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise InputError(f"{name}: ended with exit code {process.wait()}")
    return float(answer)


def _measure_when_told(name: str, net: str) -> None:
    measure = _torch(net) if name == TORCH else _ours(net, name)
    for _ in sys.stdin:
        print(measure(), flush=True)


def _ours(net: str, name: str) -> Measure:
    with quiet_start():
        import tensorflow as tf

    from data_pipeline.augment import augmenter
    from data_pipeline.options import PipelineOptions
    from data_pipeline.tiers.device_tables import look_up
    from tfrecords.manifest import Manifest
    from trainer.config import TrainConfig
    from trainer.devices.precision import choose_precision, cpu_flags, gpu_capabilities
    from trainer.devices.strategy import make_strategy
    from trainer.loop import Data, Loop
    from trainer.models.registry import build_model
    from trainer.optimisation.optimizer import make_optimizer
    from trainer.tiers import choose_train_tier, run_data

    cores = len(os.sched_getaffinity(0))
    config = TrainConfig(
        data=_DATA.value,
        run_dir="",
        model=net,
        optimizer="adamw",
        learning_rate=_RATE,
        pipeline=PipelineOptions(
            global_batch_size=_BATCH.value,
            copies="none",
            augment=_AUGMENT.value if name == AUGMENTED else "none",
        ),
    )
    manifest = Manifest.load(Path(_DATA.value))
    strategy = make_strategy(config, cores)
    policy = choose_precision("auto", gpu_capabilities(), cpu_flags()).policy

    def build() -> tuple[Any, Any]:
        model = build_model(net, manifest.image_shape, len(manifest.class_names), dtype=policy)
        return model, make_optimizer(config, _RATE, policy, model.trainable_variables)

    augment = augmenter(_AUGMENT.value) if name == AUGMENTED else None
    loop = Loop(strategy, build, len(manifest.class_names), augment=augment)
    data = run_data(config, manifest, strategy, choose_train_tier(config, manifest, strategy))
    data = replace(data, steps_per_epoch=_STEPS.value, val_steps=0)
    if name == CONSTANT:
        first, table = next(iter(data.train(0))), data.table()
        batch = look_up(first, table)
        constant = strategy.distribute_datasets_from_function(
            lambda _: tf.data.Dataset.from_tensors(batch).repeat()
        )
        data = Data(lambda _: constant, data.val, _STEPS.value, 0, _BATCH.value)

    def measure() -> float:
        began = time.perf_counter()
        loop.run(data, [], epochs=1)
        return _STEPS.value * _BATCH.value / (time.perf_counter() - began)

    return measure


def _torch(net: str) -> Measure:
    import torch
    from torch import nn

    from tfrecords.manifest import Manifest

    manifest = Manifest.load(Path(_DATA.value))
    height, width, channels = manifest.image_shape
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = (_torch_cnn if net == "cnn" else _torch_resnet)(nn, channels, len(manifest.class_names))
    images = torch.randint(0, 256, (_BATCH.value, channels, height, width), dtype=torch.uint8)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, len(manifest.class_names), (_BATCH.value,))
    model(images.float() / 255)  # lazy layers get their shapes
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, fused=True)
    loss_of = nn.CrossEntropyLoss()

    def measure() -> float:
        began = time.perf_counter()
        for _ in range(_STEPS.value):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(model(images.float() / 255).float(), labels)
            loss.backward()
            optimizer.step()
        return _STEPS.value * _BATCH.value / (time.perf_counter() - began)

    return measure


def _torch_cnn(nn: Any, channels: int, classes: int) -> Any:
    layers: list[Any] = []
    for before, filters in zip((channels, *_FILTERS), _FILTERS, strict=False):
        layers += [nn.Conv2d(before, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, classes))


def _torch_resnet(nn: Any, channels: int, classes: int) -> Any:
    class Block(nn.Module):  # type: ignore[misc]  # nn is a module of no type here
        def __init__(self, before: int, filters: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(before, filters, 3, stride, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(),
                nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
                nn.BatchNorm2d(filters),
            )
            self.around = (
                nn.Sequential(nn.Conv2d(before, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
                if stride > 1
                else nn.Identity()
            )
            self.last = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.last(self.body(x) + self.around(x))

    layers = [
        nn.Conv2d(channels, _WIDTH, 7, 2, 3, bias=False),
        nn.BatchNorm2d(_WIDTH),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    before = _WIDTH
    for times, stride in _STAGES:
        layers.append(Block(before, times * _WIDTH, stride))
        before = times * _WIDTH
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(before, classes)
    )


def _table(rows: dict[str, dict[str, list[float]]]) -> list[str]:
    from tfrecords.manifest import Manifest

    shape = "x".join(map(str, Manifest.load(Path(_DATA.value)).image_shape))
    lines = [
        f"{len(os.sched_getaffinity(0))} cores; {shape}; batch {_BATCH.value}; {_REPEATS.value} turns of "
        f"{_STEPS.value} steps, medians; AdamW; augmentation: {_AUGMENT.value}",
        "",
        "| net | contender | images/s | ours / it (range) |",
        "|-|-|-|-|",
    ]
    for net, found in rows.items():
        for name, values in found.items():
            ratios = [ours / it for ours, it in zip(found[PLAIN], values, strict=True)]
            lines.append(
                f"| {net} | {name} | {statistics.median(values):,.0f} | {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f}-{max(ratios):.2f}) |"
            )
    return lines


if __name__ == "__main__":
    run(main)
