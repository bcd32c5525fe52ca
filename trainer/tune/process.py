"""The processes of a search that need TensorFlow: each does one thing, and its memory is freed when it ends.

A worker starts them; they are no commands for people. The worker imports this module too, so heavy imports
stand inside functions.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from data_pipeline.fetch import end_process, resolve_data
from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from tfrecords.files.atomic import write_atomically
from tfrecords.manifest import Manifest
from tfrecords.signals import held
from trainer.run import Run
from trainer.tune import trials
from trainer.tune.order import CONCLUDED, ENDED, End, Trial
from trainer.tune.search import Search
from trainer.tune.show.trials_csv import trials_csv
from trainer.tune.state import Looker
from trainer.tune.winner import in_words

EXECUTION: Final = "execution"  # trains one execution of a trial, then asks the oracle
ASK: Final = "ask"  # asks the oracle for trials
CONCLUDE: Final = "conclude"  # makes the final model, writes tables and the page
CSV_NAME: Final = "trials.csv"
PAGE_NAME: Final = "search.html"
FINAL_NAME: Final = "final"
_FINAL_OF_NAME: Final = "final-of.json"  # the trial that the final run is made from, and how
_SET_PDEATHSIG: Final = 1


def command(what: str, folder: Path, *arguments: object) -> list[str]:
    """Returns the command line of a process."""
    code = "from trainer.tune.process import main; main()"
    return [sys.executable, "-c", code, what, str(folder), *map(str, arguments), str(os.getpid())]


def main() -> None:
    """Does what the command line says."""
    run(_main, positional="what to do")


def _main(arguments: list[str]) -> None:
    what, folder, *rest, parent = arguments
    end_with(int(parent), signal.SIGKILL)
    with quiet_start(), held():  # TensorFlow's threads must not take signals from this one
        import tensorflow as tf  # noqa: F401  # its threads start here
    search = _with_data_here(Search.load(Path(folder)))
    if what == EXECUTION:
        _execution(search, int(rest[0]), int(rest[1]), float(rest[2]))
    elif what == ASK:
        _ask(search)
    else:
        _conclude(search)
    end_process()


def _with_data_here(search: Search) -> Search:
    """Returns the search with its data on this machine: data at a URL are fetched."""
    config = search.config
    if not config.data_url:
        return search
    splits = () if config.direct else ("train", "val", "test")
    data = resolve_data(config.data_url, splits, cache_dir=config.pipeline.cache_dir)
    return replace(search, config=replace(config, data=str(data)))


def end_with(parent: int, number: signal.Signals) -> None:
    """Makes the kernel send this process a signal when its parent ends, in whatever way."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # the parent has ended already
        os._exit(1)


def _execution(search: Search, number: int, execution: int, seconds_before: float) -> None:
    from trainer.tensorboard.hparams import write_session, write_session_end
    from trainer.training import train

    began = time.monotonic()
    trial = search.order(search.journal.read()).trials[number]
    config = trials.config_of(search, trial, execution)
    trials.take_over(search, trial, execution)
    board = Path(config.run_dir) / "tensorboard"
    name = f"{number:04d}" if search.options.executions_per_trial == 1 else f"{number:04d}-{execution}"
    train(config, evaluate=False, compare=False)
    write_session(board, name, trial.values)
    write_session_end(board, success=True)
    end = trials.end_of(search, trial, execution, seconds_before + time.monotonic() - began)
    with search.journal.lease() as lease:
        if execution not in search.order(lease.events).trials[number].ends:
            lease.append([ended(number, execution, end)])
    _ask(search)


def ended(number: int, execution: int, end: End) -> dict[str, Any]:
    """Returns the journal's event of an execution's end, on this machine."""
    event = {"event": ENDED, "trial": number, "execution": execution, **end.event}
    return {**event, "host": socket.gethostname()}


def _ask(search: Search) -> None:
    """Asks for trials, removes models and checkpoints that nobody needs any more, and rewrites the table."""
    from trainer.tune.oracles import ask, still_needed

    with search.journal.lease() as lease:
        ask(search, lease)
        order = search.order(lease.events)
    trials.prune(search, order, still_needed(search, order))
    write_table(search)


def write_table(search: Search) -> None:
    """Writes trials.csv."""
    write_atomically(search.folder / CSV_NAME, trials_csv(Looker(search).look()).encode())


def _conclude(search: Search) -> None:
    """Makes the final run, the tables and the page of a finished search."""
    from trainer.tune.oracles import still_needed, write_project
    from trainer.tune.show.page import page

    order = search.order(search.journal.read())
    trials.prune(search, order, still_needed(search, order))
    write_project(search, order)
    best = trials.best_of(search, order)
    text = ""
    if best and search.options.final != "none":
        _make_room(search, best)
        text = _final(search, best, in_words(search, order, best))
    with search.journal.lease() as lease:
        lease.append(
            [
                {
                    "event": CONCLUDED,
                    "final": search.options.final,
                    "best": best.number if best else None,
                    "trials": len(order.trials),
                    "text": text,
                }
            ]
        )
    write_table(search)
    write_atomically(search.folder / PAGE_NAME, page(Looker(search).look()).encode())


def _make_room(search: Search, best: Trial) -> None:
    """Renames a final run that was made from another trial, or in another way."""
    path, folder = search.folder / _FINAL_OF_NAME, search.folder / FINAL_NAME
    now = json.dumps({"best": best.number, "final": search.options.final}).encode()
    there = path.read_bytes() if path.exists() else now
    if there != now and folder.exists():
        number = 1
        while (before := search.folder / f"{FINAL_NAME}-before-{number}").exists():
            number += 1
        folder.rename(before)
    write_atomically(path, now)


def _final(search: Search, best: Trial, chosen: str) -> str:
    """Trains the best trial anew, or takes the run of its best execution; returns its report as text."""
    from trainer.evaluation.evaluate_run import evaluate_run
    from trainer.finish import headline_split
    from trainer.training import train

    folder = search.folder / FINAL_NAME
    if search.options.final == "retrain":
        config = trials.config_of(search, best, 0).changed(
            run_dir=str(folder),
            seed=search.options.seed,
            epochs=search.config.epochs,
        )
        evaluation = train(config, chosen=chosen, compare=False)
        return evaluation.text if evaluation else ""
    trials.copy_run(trials.run_dir(search, best.number, trials.best_execution(search, best)), folder)
    there = Run.load(folder)
    there = replace(there, facts={**there.facts, "chosen": chosen, "run": str(folder)})
    there.save()
    manifest = Manifest.load(Path(there.config.data), check_shards=False)
    return evaluate_run(there, split=headline_split(manifest), manifest=manifest).text
