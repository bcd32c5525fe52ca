"""The best trial of a search as flags of trainer.main, and a sentence on how it was chosen."""

import shlex
from typing import Any, Final

from trainer.config import TrainConfig
from trainer.tune.order import Order, Trial
from trainer.tune.search import Search
from trainer.tune.show.overview import DONE
from trainer.tune.space import with_values
from trainer.tune.trials import seed_of

# Fields that are no flags, or that belong to this machine or this search.
_LEFT_OUT: Final = frozenset(
    {"data", "data_url", "run_dir", "tuned", "ram_budget", "max_minutes"}
    # A winner may differ from its recipe where it equals the defaults, so its flags are spelled out.
    | {"recipe", "from_recipe"}
)


def flags_of(config: TrainConfig) -> list[str]:
    """Returns a configuration as flags of trainer.main: the data, and whatever differs from its default."""
    default = TrainConfig(data="", run_dir="").to_json()
    flags = [f"--data={config.data_url or config.data}"]
    for name, value in config.to_json().items():
        if name in _LEFT_OUT or value == default[name]:
            continue
        flags.append(_flag(name, value))
    if budget := config.pipeline.ram_budget:
        flags.append(f"--ram_budget_mb={budget >> 20}")
    return flags


def winner_flags(search: Search, best: Trial) -> str:
    """Returns the flags of trainer.main that train the best trial again, to the bit; ready to paste."""
    config = search.config.changed(seed=seed_of(search, best, 0), epochs=best.epochs)
    config = with_values(config, best.values)
    return shlex.join(flags_of(config))


def in_words(search: Search, order: Order, best: Trial) -> str:
    """Returns a sentence on how the best trial was chosen, for the report of the final run."""
    done = sum(trial.state(search.options.executions_per_trial) == DONE for trial in order.trials)
    return (
        f"trial {best.number} of a search by {search.options.oracle}, the best of {done} "
        f"trial{'s' * (done > 1)} by {search.options.objective} on validation ({best.score:.4g}): it was "
        f"chosen on validation, so its validation figures are too good; rely on those of test"
    )


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, list | tuple):
        return f"--{name}={','.join(map(str, value))}"
    return f"--{name}={value}"
