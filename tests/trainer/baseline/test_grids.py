import numpy as np
import pytest

from trainer.baseline.grids import GRIDS, build, in_words
from trainer.config import BASELINES

CASES = [(model, setting) for model, grid in GRIDS.items() for setting in grid]


def test_each_model_has_a_grid():
    assert tuple(GRIDS) == BASELINES
    for grid in GRIDS.values():
        assert 2 <= len(grid) <= 18
        assert len({in_words(setting) for setting in grid}) == len(grid)


@pytest.mark.parametrize(("model", "setting"), CASES, ids=lambda value: str(value)[:60])
def test_each_setting_is_used_and_fits_few_records(model, setting):
    random = np.random.default_rng(0)
    features = random.random((12, 20), np.float32)
    pipeline = build(model, setting, features.shape, 0, trees=3)
    given = {name.rpartition("__")[2]: value for name, value in pipeline.get_params().items()}
    for name in setting.keys() & {"C", "max_features", "min_samples_leaf"}:
        assert given[name] == setting[name]
    pipeline.fit(features, np.arange(12) % 2)
    if model == "pca_svm":
        assert pipeline["components"].n_components_ == 11  # of at most 12 - 1
        assert pipeline["kernel"].gamma == setting["gamma"] / 11


@pytest.mark.slow
def test_the_kernel_tells_apart_what_no_line_can():
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (300, 2)).astype(np.float32)
    labels = (np.hypot(*features.T) > 1).astype(int)
    machine = build("pca_svm", GRIDS["pca_svm"][-1], features.shape, 0)
    assert machine.fit(features.copy(), labels).score(features.copy(), labels) > 0.9
    line = build("logistic", GRIDS["logistic"][-1], features.shape, 0)
    assert line.fit(features.copy(), labels).score(features.copy(), labels) < 0.8
