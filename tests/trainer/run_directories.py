"""Makes a run directory as a training does, or opens the one that is there; reads what is in it."""

import json

from tfrecords.manifest import Manifest
from trainer.run import DataFacts, Run

TIMES = {"images_per_second", "input_wait"}  # what differs between two runs that are the same


def open_run(config, manifest, facts, *, write, tier=None, precision="", threads=0):
    """Refuses another run in the directory; writes the configuration if `write` (as the chief does)."""
    run = Run(config, DataFacts.of(manifest), facts, tier, precision, threads)
    Run.stored(config, manifest, precision)
    if write:
        run.save()
    return run


def history(folder):
    """Returns the rows of history.json."""
    return json.loads((folder / "history.json").read_text())


def figures(folder):
    """Returns the rows of history.json, without what differs between two runs that are the same."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in history(folder)]


def epoch_steps(data, batch):
    """Returns the number of steps of an epoch."""
    return -(-Manifest.load(data).split("train").records // batch)


def contents(folder):
    """Returns the bytes of each file, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
