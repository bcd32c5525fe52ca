"""All that shows how a run goes: the progress line, and what TensorBoard reads."""

from collections.abc import Callable, Mapping
from typing import Any

from trainer.blocks import Cuts
from trainer.callbacks.profiling import Profile
from trainer.callbacks.progress import ProgressLine
from trainer.callbacks.scalars import Scalars
from trainer.checkpoint import State
from trainer.loop import Data
from trainer.run import Run
from trainer.tensorboard.comparison import write_run
from trainer.tensorboard.events import write_text


def watching(
    run: Run, data: Data, resumed: State | None, cuts: Cuts, log: Callable[[str], None], *, compare: bool
) -> list[Any]:
    """Writes for TensorBoard what a run is, and returns the callbacks that show how it goes.

    Args:
        run: the run; only its chief calls this.
        data: what it reads.
        resumed: the state that it goes on from, if it was resumed.
        cuts: where blocks end: `of_epoch` says where to log.
        log: told what is profiled.
        compare: whether the HParams page is to show the run.

    Raises:
        InputError: the files cannot be written.
    """
    config, folder = run.config, run.tensorboard
    write_text(folder / "config", "config", _markdown(run.facts))
    if compare:
        write_run(folder, config, run.data.name, run.precision)
    scalars = Scalars(
        folder,
        steps_per_epoch=data.steps_per_epoch,
        images_per_step=data.global_batch_size,
        log_steps=cuts.of_epoch,
        start=(resumed.epoch, resumed.step) if resumed else (0, 0),
        history=resumed.history if resumed else (),
        monitor=config.monitor,
    )
    line = ProgressLine(config.epochs, data.steps_per_epoch, data.global_batch_size, cuts.of_epoch)
    if not config.profile_steps:
        return [scalars, line]
    profile = Profile(folder, *config.profile_steps, steps_per_epoch=data.steps_per_epoch, log=log)
    return [profile, scalars, line]


def _markdown(facts: Mapping[str, str]) -> str:
    return "| | |\n|-|-|\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items())
