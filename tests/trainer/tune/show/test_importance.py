import math

import numpy as np
import pytest

from trainer.tune.show.importance import LEAST_TRIALS, importance
from trainer.tune.show.overview import Overview, Parameter, Row

PARAMETERS = (
    Parameter("rate", "float", (1e-5, 1e-1), True),
    Parameter("filters", "int", (32, 128)),
    Parameter("kernel", "choice", ("a", "b", "c")),
    Parameter("augment", "boolean", (False, True)),
    Parameter("fixed", "int", (4, 4)),
)


def search(score, count=80, objective="val_accuracy", failed=0):
    random = np.random.default_rng(0)
    rows = []
    for i in range(count + failed):
        values = {
            "rate": float(10 ** random.uniform(-5, -1)),
            "filters": int(random.integers(32, 129)),
            "augment": bool(random.integers(2)),
            "fixed": 4,
        }
        if random.integers(2):
            values["kernel"] = str(random.choice(["a", "b", "c"]))
        state = "done" if i < count else "failed"
        found = float(score(values, random)) if state == "done" else None
        rows.append(Row(i, values, "drawn", None, (0,), state, found, 9, 9, 1.0, 0.0, 1.0))
    return Overview("s", {}, "random", objective, "max", PARAMETERS, tuple(rows), 0, True, 0, None, "")


@pytest.mark.parametrize(("count", "known"), [(0, False), (LEAST_TRIALS - 1, False), (LEAST_TRIALS, True)])
def test_few_trials_tell_nothing(count, known):
    found = importance(search(lambda values, _: values["filters"], count, failed=5))
    assert (found is not None) == known


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("rate", lambda values, _: -abs(math.log10(values["rate"]) + 3)),
        ("filters", lambda values, _: values["filters"] / 128),
        ("kernel", lambda values, _: {"a": 0.2, "b": 0.9, "c": 0.1}.get(values.get("kernel"), 0.5)),
        ("kernel", lambda values, _: "kernel" in values),
        ("augment", lambda values, _: 0.5 + 0.01 * values["augment"]),
    ],
)
def test_what_the_score_hangs_on_is_important(name, score):
    overview = search(score)
    found = importance(overview)
    assert list(found) == [parameter.name for parameter in PARAMETERS]
    assert found[name] > 0.8
    assert max(share for other, share in found.items() if other != name) < 0.2
    assert found["fixed"] == pytest.approx(0)
    assert importance(overview) == found


def test_a_loss_over_decades_counts_by_its_logarithm():
    def score(values, _):
        # One huge loss would be all of the variance, were it not for the logarithm.
        return math.exp(values["filters"] / 8) if values["filters"] < 128 else 1e300

    assert importance(search(score, objective="val_loss"))["filters"] > 0.8


@pytest.mark.parametrize(
    "score", [lambda values, random: 0.5, lambda values, random: random.normal(), lambda *_: 1e300]
)
def test_chance_is_not_important(score):
    found = importance(search(score))
    assert max(found.values()) <= 1
    assert math.fsum(found.values()) == 0


def test_no_score_no_importance():
    assert importance(search(lambda values, _: math.nan)) is None
