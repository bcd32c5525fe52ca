import pytest

from tfrecords.errors import InputError
from trainer.baseline.options import BaselineOptions
from trainer.config import BASELINES


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "cnn"}, f"--model=cnn: must be one of {', '.join(BASELINES)}"),
        ({"pixels": 0}, "--pixels=0: must be from 1 to 256"),
        ({"pixels": 257}, "--pixels=257: must be from 1 to 256"),
        ({"folds": 1}, "--folds=1: must be from 2 to 20"),
        ({"seed": -1}, "--seed=-1: must be from 0 to 4294967295"),
        ({"jobs": -1}, "--jobs=-1: must be 0 or more"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(values, message, facts):
    with pytest.raises(InputError, match=facts(message)):
        BaselineOptions(data="d", run_dir="r", **values)


@pytest.mark.parametrize("model", BASELINES)
def test_the_run_has_what_a_networks_has(model):
    config = BaselineOptions(data="d", run_dir="r", model=model, seed=3).config
    assert (config.data, config.run_dir, config.model, config.seed) == ("d", "r", model, 3)
