"""What does each lever of a recipe earn? The recipe, and the recipe without one lever at a time, by folds.

    python -m tfrecords.convert --images=chest_xray/train --out=data/x64 --size=64 --copies=0
    python benchmarks/ablation.py --data=data/x64 --out=ablation

Every variant is trained once for each fold, with a seed of its own, and tested on the fold that it has not
seen, with the stress test. Together the folds hold out each image of train and val once; the test split is
not read. A recipe is chosen by three figures at the threshold that it has, each the mean of both classes,
because elsewhere their shares are others: the accuracy where whole-image numbers contradict the label; the
mean accuracy over all changes of the stress test; and that at the worst change.
Differences are those to the whole recipe on the same fold: their mean, and their range over the folds, each
of which has other images and another seed. The same command goes on where it was stopped.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from absl import flags

from tfrecords.command import run
from tfrecords.errors import InputError
from tfrecords.files.outputs import write_output

_DATA = flags.DEFINE_string("data", None, "A conversion without copies, small images.", required=True)
_OUT = flags.DEFINE_string("out", None, "The runs and the table go here.", required=True)
_RECIPE_OF = flags.DEFINE_string("of", "robust", "The recipe.")
_FOLDS = flags.DEFINE_integer("folds", 3, "Folds, and seeds.", lower_bound=2)
_FLAGS = flags.DEFINE_multi_string(
    "flag", ["--epochs=8"], "For all trainings, before the lever; may be repeated."
)
_WITHOUT = flags.DEFINE_list("without", [], "Only these levers; all if none.")
_PARALLEL = flags.DEFINE_integer("parallel", 2, "Trainings at once, one thread each.", lower_bound=1)

_WITHOUT_SOFT_TARGETS: Final = ("--label_smoothing=0",)
_WITHOUT_DECAY: Final = ("--weight_decay=0", "--optimizer=adam")
# What each lever is replaced by: the trainer's default; for augment the mild preset, as copies have it.
LEVERS: Final[dict[str, tuple[str, ...]]] = {
    "augment": ("--augment=standard",),
    "normalize": ("--normalize=none",),
    "sampling": ("--sampling=natural",),
    "label_smoothing": _WITHOUT_SOFT_TARGETS,
    "weight_decay": _WITHOUT_DECAY,
    "label_smoothing_and_weight_decay": (*_WITHOUT_SOFT_TARGETS, *_WITHOUT_DECAY),
    "schedule": ("--schedule=constant", "--warmup_epochs=0", "--monitor=val_loss"),
}
# Levers that the recipe does not have, to see whether it should.
WITH: Final[dict[str, tuple[str, ...]]] = {"mixup": ("--mixup=0.2",), "tta_flip": ("--tta_flip=true",)}
_CHOOSING: Final = ("contradicting", "stress", "worst")
_COLUMNS: Final = (*_CHOOSING, "accuracy", "auroc", "minutes")
_ENVIRONMENT: Final = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONUNBUFFERED="1")


@dataclass(frozen=True)
class Outcome:
    """Of one training, on the fold that it has not seen.

    Attributes:
        cells: the accuracy of each class, where the numbers agree and where they contradict, in turn.
        contradicting: mean of the classes' accuracies where the numbers contradict them.
        stress: mean balanced accuracy over all changed levels of the stress test.
        worst: the lowest of them.
        accuracy: over all images.
        auroc: over all images.
        minutes: of the training.
    """

    cells: tuple[float, ...]
    contradicting: float
    stress: float
    worst: float
    accuracy: float
    auroc: float
    minutes: float


def main(_: list[str]) -> None:
    """Trains what is missing and prints the table."""
    out = Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    variants: dict[str, tuple[str, ...]] = {"whole": ()}
    for name in _WITHOUT.value or LEVERS:
        if name not in LEVERS:
            raise InputError(f"--without={name}: must be of {', '.join(LEVERS)}")
        variants[f"without {name}"] = LEVERS[name]
    if not _WITHOUT.value:
        variants |= {f"with {name}": words for name, words in WITH.items()}
    numbers = range(1, _FOLDS.value + 1)
    work = [(name, number) for number in numbers for name in variants]
    with ThreadPoolExecutor(_PARALLEL.value) as pool:
        for _ in pool.map(lambda item: trained(out, item[0], variants[item[0]], item[1]), work):
            pass  # what a training raises is raised here
    found = {name: [outcome(place(out, name, number)) for number in numbers] for name in variants}
    plain = {name: [asdict(each) for each in outcomes] for name, outcomes in found.items()}
    write_output("--out", str(out / "ablation.json"), json.dumps(plain, indent=1).encode())
    print(table(found))


def trained(out: Path, name: str, flags_: Sequence[str], number: int) -> None:
    """Trains one fold of a variant and tests it on the fold that it has not seen, unless that is done."""
    folder = place(out, name, number)
    common = (sys.executable, "-m")
    for words, made in (
        (
            (
                *common,
                "trainer.main",
                f"--recipe={_RECIPE_OF.value}",
                f"--data={_DATA.value}",
                f"--run_dir={folder}",
                f"--fold={number}/{_FOLDS.value}",
                f"--seed={number - 1}",
                *_FLAGS.value,
                *flags_,
                "--threads_per_process=1",
            ),
            folder / "result.json",
        ),
        (
            (*common, "trainer.evaluate", f"--run_dir={folder}", "--split=val", "--stress"),
            folder / "report/val/report.json",
        ),
    ):
        if made.exists():
            continue
        began = time.monotonic()
        done = subprocess.run(words, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        if made.name == "result.json":
            (folder / "seconds.txt").write_text(f"{time.monotonic() - began:.0f}")
    found = outcome(folder)
    print(
        f"{name}, fold {number}: {found.contradicting:.3f} {found.stress:.3f} {found.worst:.3f}",
        flush=True,
    )


def place(out: Path, name: str, number: int) -> Path:
    """Returns the run directory of one fold of a variant."""
    return out / name.replace(" ", "-") / f"fold-{number}"


def outcome(folder: Path) -> Outcome:
    """Reads what a run has given."""
    report = json.loads((folder / "report/val/report.json").read_text())
    cells = report["shortcut"]["cells"]
    levels = [
        level["estimates"]["balanced_accuracy"]["value"]
        for change in report["stress"]
        for level in change["levels"]
        if level["level"] != change["unchanged"]
    ]
    decisions = report["decisions"]
    headline = decisions.get("chosen", decisions["default"])["estimates"]
    seconds = float((folder / "seconds.txt").read_text())
    return Outcome(
        tuple(cell["accuracy"]["value"] for cell in cells),
        statistics.fmean(cell["accuracy"]["value"] for cell in cells if not cell["agrees"]),
        statistics.fmean(levels),
        min(levels),
        headline["accuracy"]["value"],
        headline["auroc"]["value"],
        seconds / 60,
    )


def table(found: Mapping[str, Sequence[Outcome]]) -> str:
    """Returns the table: means over the folds; differences to the whole recipe, with their range."""
    whole = found["whole"]
    heads = "".join(f"{key:>15}  {'difference':24}" for key in _CHOOSING)
    lines = [f"{'variant':41}{heads}{'accuracy':>10}{'AUROC':>7}{'minutes':>9}"]
    for name, outcomes in found.items():
        mean = {key: statistics.fmean(getattr(each, key) for each in outcomes) for key in _COLUMNS}
        words = {key: _difference(key, outcomes, whole) if name != "whole" else "" for key in _CHOOSING}
        cells = "".join(f"{mean[key]:15.3f}  {words[key]:24}" for key in _CHOOSING)
        lines.append(f"{name:41}{cells}{mean['accuracy']:10.3f}{mean['auroc']:7.3f}{mean['minutes']:9.1f}")
    return "\n".join(lines)


def _difference(key: str, outcomes: Sequence[Outcome], whole: Sequence[Outcome]) -> str:
    """Returns the mean difference over the folds, each to the same fold, and its range."""
    pairs = zip(outcomes, whole, strict=True)
    differences = [getattr(one, key) - getattr(other, key) for one, other in pairs]
    return f"{statistics.fmean(differences):+.3f} [{min(differences):+.3f}, {max(differences):+.3f}]"


if __name__ == "__main__":
    run(main)
