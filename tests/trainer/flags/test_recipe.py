"""What the recipes of the package say; test_config parses them."""

from pathlib import Path

import pytest

from trainer.config import TrainConfig
from trainer.flags.recipe import _FILES, lines, title

# What a recipe must leave to the user: where things are, on what they run, and how fast.
_NOT_OF_A_RECIPE = {
    *("data", "data_url", "run_dir", "cache", "cache_dir", "ram_budget", "prefetch", "parallel_reads"),
    *("threads", "threads_per_process", "strategy", "devices", "logical_cpus", "data_service", "remote"),
    *("seed", "tuned", "recipe", "from_recipe", "positive"),
}


@pytest.mark.parametrize("name", _FILES)
def test_a_recipe_sets_fields_of_the_configuration_and_says_why(name):
    fields = TrainConfig(data="", run_dir="").values().keys() - _NOT_OF_A_RECIPE
    assert lines(name).keys() <= fields
    assert lines(name)
    assert title(name).endswith(".")
    text = Path(_FILES[name]).read_text().splitlines()
    assert text[0].startswith("# ")
    assert all(line.startswith(("# ", "--")) for line in text)


def test_the_notebooks_recipe_is_the_defaults():
    default = TrainConfig(data="", run_dir="").to_json()
    for flag, value in lines("notebook").items():
        assert type(default[flag])(_plain(value)) == default[flag], flag


def test_the_quick_recipe_is_the_robust_one_with_fewer_epochs():
    robust, quick = lines("robust"), lines("robust_quick")
    assert {name for name in robust.keys() | quick.keys() if robust.get(name) != quick.get(name)} == {
        "epochs"
    }
    assert int(quick["epochs"]) < int(robust["epochs"])


def _plain(text):
    return text == "true" if text in ("true", "false") else text
