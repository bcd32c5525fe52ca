import functools

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest
from sklearn.metrics import precision_recall_fscore_support

from trainer.evaluation.intervals import FEW_GROUPS, estimates, estimates_of_classes
from trainer.evaluation.predictions import Predictions

# What version 0.1.0 told of `drawn()` at 0.4: value and interval.
PUBLISHED = {
    "accuracy": (0.8666666666666667, 0.8387028198376125, 0.8923334975983324),
    "auroc": (0.9519534201520068, 0.935886796911984, 0.9656167188924067),
    "auprc": (0.9496653581518469, 0.927509817532962, 0.9673857384190249),
    "sensitivity": (0.9496644295302014, 0.9240453935786739, 0.972027972027972),
    "specificity": (0.7847682119205298, 0.7394101869470334, 0.8266686930091185),
    "precision": (0.8132183908045977, 0.7714853380189517, 0.8510655511946568),
    "f1": (0.8761609907120743, 0.8455489972176207, 0.9009050146036447),
    "balanced_accuracy": (0.8672163207253656, 0.8411019927423777, 0.8910998952943474),
    "mcc": (0.7440012783437621, 0.6938447526242336, 0.7910878328974064),  # later than that version
    "loss": (0.3280190763833667, 0.3013412473767587, 0.3576009375818478),
    "brier": (0.09674289927803595, 0.08612956258980674, 0.1081663240280549),
}


def binary(scores, labels, groups=None):
    scores = np.asarray(scores, np.float64)
    ids = tuple(f"r{i}" for i in range(len(scores)))
    return Predictions(
        ("NORMAL", "PNEUMONIA"),
        ids,
        tuple(map(str, groups)) if groups is not None else ids,
        np.asarray(labels),
        np.stack([1 - scores, scores], axis=1),
    )


@functools.cache
def found_of(n):
    """The estimates of n positives, one a group, of which k are found, for each k."""
    return [estimates(binary([0.9] * k + [0.1] * (n - k), [1] * n), 0.5, resamples=400) for k in range(n + 1)]


@pytest.mark.parametrize("n", [2, 3, 5, 10, 20, 35, 49, 50])
def test_the_interval_covers_the_truth_as_often_as_it_says(n):
    """By counting every outcome: as many groups as there are, so often found as the truth says."""
    for truth in (0.5, 0.8, 0.95, 0.99):
        covered = sum(
            chance
            for chance, found in zip(binom.pmf(range(n + 1), n, truth), found_of(n), strict=True)
            if found["sensitivity"].low <= truth <= found["sensitivity"].high
        )
        assert covered >= 0.93, truth


@pytest.mark.parametrize("n", [2, 10, 49])
def test_of_few_groups_no_interval_is_narrower_than_the_exact_one(n):
    for k, found in enumerate(found_of(n)):
        low, high = binomtest(k, n).proportion_ci(0.95, method="exact")
        for name in ("sensitivity", "accuracy"):
            assert found[name].value == pytest.approx(k / n)
            assert found[name].low <= low + 1e-9
            assert found[name].high >= high - 1e-9
            assert found[name].method == "exact"


def test_two_records_that_are_right_say_little():
    found = estimates(binary([0.1, 0.9], [0, 1]), 0.5)
    assert (found["accuracy"].low, found["accuracy"].high) == (pytest.approx(0.025**0.5), 1)
    for name in ("sensitivity", "specificity", "precision", "auroc", "auprc", "balanced_accuracy"):
        assert (found[name].value, found[name].high) == (1, 1)
        assert found[name].low == pytest.approx(0.025), name
    for name in ("loss", "brier"):
        assert np.isnan([found[name].low, found[name].high]).all()
        assert found[name].method == "none"


def test_the_group_is_the_unit_not_the_record():
    labels = np.tile([0, 1], 300)
    found = estimates(binary(labels * 0.8 + 0.1, labels, np.arange(600) // 200), 0.5)
    for name in ("accuracy", "sensitivity", "specificity", "auroc"):
        assert found[name].low == pytest.approx(0.025 ** (1 / 3)), name
    one = estimates(binary(labels * 0.8 + 0.1, labels, np.zeros(600)), 0.5)
    assert one["accuracy"].low == pytest.approx(0.025)
    # One group with nearly all records is nearly one group.
    giant = estimates(binary(labels * 0.8 + 0.1, labels, [0] * 594 + [1, 2, 3] * 2), 0.5)
    effective = 600**2 / (594**2 + 3 * 4)
    assert giant["accuracy"].low == pytest.approx(beta.ppf(0.025, effective, 1))


def test_sensitivity_rests_on_the_groups_of_its_class():
    """90 normal groups are found, and say nothing of the 3 that are sick."""
    found = estimates(binary([0.9] * 3 + [0.1] * 90, [1] * 3 + [0] * 90), 0.5)
    assert found["sensitivity"].low == pytest.approx(0.025 ** (1 / 3))
    assert found["specificity"].low == pytest.approx(0.025 ** (1 / 90))
    assert found["accuracy"].low == pytest.approx(0.025 ** (1 / 93))
    assert found["auroc"].low == pytest.approx(0.025 ** (1 / 3))
    assert (found["specificity"].method, found["loss"].method) == ("exact", "none")


def drawn(records=600, seed=11):
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=records)
    scores = 1 / (1 + np.exp(-random.normal(1.5 * (2 * labels - 1), 1.2)))
    return binary(scores, labels, random.integers(300, size=records))


def test_of_many_groups_the_interval_is_the_bootstraps_as_ever():
    """Figures that were published before keep their intervals: these are those of version 0.1.0."""
    found = estimates(drawn(), 0.4)
    assert {e.method for e in found.values()} == {"bootstrap"}
    assert {name: (e.value, e.low, e.high) for name, e in found.items()} == {
        name: pytest.approx(values, abs=1e-12) for name, values in PUBLISHED.items()
    }


def test_a_bootstrap_that_reaches_the_bound_is_widened():
    """Two of 400 are wrong: resamples without them reach 1, and the lower end is too high."""
    labels = np.tile([0, 1], 200)
    scores = labels * 0.8 + 0.1
    scores[[0, 2]] = 0.95
    found = estimates(binary(scores, labels), 0.5)
    low, high = binomtest(198, 200).proportion_ci(0.95, method="exact")
    assert (found["specificity"].method, found["specificity"].high) == ("exact", 1)
    assert found["specificity"].low == pytest.approx(low)
    assert high < 1
    assert found["sensitivity"].low == pytest.approx(0.025 ** (1 / 200))  # all right
    assert found["auroc"].low < found["auroc"].value < found["auroc"].high


def test_groups_that_are_all_alike_still_vary():
    """Each group has one right and one wrong: every resample gives 0.5, which is no certainty."""
    assert FEW_GROUPS <= 60
    found = estimates(binary([0.9, 0.1] * 60, [1, 1] * 60, np.arange(120) // 2), 0.5)
    low, high = binomtest(30, 60).proportion_ci(0.95, method="exact")
    assert (found["sensitivity"].low, found["sensitivity"].high) == pytest.approx((low, high))
    assert np.isnan(found["loss"].low)


def test_a_class_that_is_never_called_leaves_its_precision_open():
    found = estimates(binary([0.1, 0.2, 0.3], [0, 1, 1]), 0.5)
    assert (found["precision"].value, found["precision"].low, found["precision"].high) == (0, 0, 1)


def test_three_classes_get_their_mean():
    labels = np.repeat([0, 1, 2], 30)
    ids = tuple(map(str, range(90)))
    found = estimates(Predictions(("A", "B", "C"), ids, ids, labels, np.eye(3)[labels]), None)
    # 30 groups a class, all right: each at least 0.884, their errors added as errors are.
    miss = 1 - 0.025 ** (1 / 30)
    for name in ("sensitivity", "balanced_accuracy", "precision"):
        assert found[name].low == pytest.approx(1 - miss / 3**0.5), name
    assert found["accuracy"].low == pytest.approx(0.025 ** (1 / 90))
    assert 0.9 < found["auroc"].low < 1


def test_classes_that_no_resample_has_all_of_still_get_their_interval():
    labels = np.arange(40)
    ids = tuple(map(str, labels))
    found = estimates(Predictions(tuple(f"class {k:02}" for k in labels), ids, ids, labels, np.eye(40)), None)
    assert found["sensitivity"].undefined == 2000
    assert (found["sensitivity"].value, found["sensitivity"].high) == (1, 1)
    assert found["sensitivity"].low == pytest.approx(1 - 0.975 / 40**0.5)
    assert found["accuracy"].low == pytest.approx(0.025 ** (1 / 40))


def test_each_class_against_the_rest_has_its_own_values_and_intervals():
    random, groups = np.random.default_rng(4), 400
    labels = random.integers(3, size=800)
    rows = random.dirichlet((1, 1, 1), size=800)
    rows[np.arange(800), labels] += 0.5
    rows /= rows.sum(axis=1, keepdims=True)
    ids, members = tuple(map(str, range(800))), tuple(map(str, random.integers(groups, size=800)))
    predictions = Predictions(("A", "B", "C"), ids, members, labels, rows)
    whole, classes = estimates_of_classes(predictions, None, resamples=200, seed=3)
    assert whole == estimates(predictions, None, resamples=200, seed=3)
    of_sklearn = precision_recall_fscore_support(labels, rows.argmax(axis=1))
    for k, each in enumerate(classes):
        values = [each[name].value for name in ("precision", "sensitivity", "f1")]
        assert values == pytest.approx([column[k] for column in of_sklearn[:3]])
        assert {e.method for e in each.values()} == {"bootstrap"}
        # Its AUROC is that of two classes, in the same resamples.
        alone = Predictions(
            ("rest", "class"),
            ids,
            members,
            (labels == k).astype(int),
            np.stack([1 - rows[:, k], rows[:, k]], 1),
        )
        expected = estimates(alone, 0.5, resamples=200, seed=3)["auroc"]
        found = each["auroc"]
        assert (found.value, found.low, found.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )


def test_a_class_with_few_groups_has_exact_intervals_of_its_own_and_one_without_records_none():
    labels = np.repeat([0, 1], [60, 4])
    ids = tuple(map(str, range(64)))
    rows = np.eye(3)[labels]
    _, (many, few, none) = estimates_of_classes(Predictions(("A", "B", "C"), ids, ids, labels, rows), None)
    assert many["sensitivity"].low == pytest.approx(0.025 ** (1 / 60))
    assert few["sensitivity"].low == few["precision"].low == pytest.approx(0.025 ** (1 / 4))
    assert {estimate.method for estimate in few.values()} == {"exact"}
    assert np.isnan([none[name].value for name in ("sensitivity", "precision", "f1", "auroc")]).all()
    assert {estimate.method for estimate in none.values()} == {"none"}
