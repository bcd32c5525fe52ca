import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, norm

from trainer.evaluation import exact


@pytest.mark.parametrize("groups", [1, 2, 9, 40])
def test_a_share_of_whole_groups_is_scipys_exact_interval(groups):
    for found in range(groups + 1):
        expected = binomtest(found, groups).proportion_ci(0.95, method="exact")
        assert exact.proportion(found / groups, groups) == pytest.approx(tuple(expected), abs=1e-9)
    assert exact.proportion(0.0, 0) == (0, 1)


def test_groups_of_one_size_count_each_and_a_giant_counts_alone():
    sizes = np.array([[1, 7, 100, 0, 0], [1, 7, 1, 3, 0], [1, 0, 1, 3, 0]], np.float64)
    assert exact.effective_groups(sizes).tolist() == pytest.approx([3, 2, 102**2 / 10002, 2, 0])


@pytest.mark.parametrize("value", [0.0, 0.5, 0.83, 0.98, 1.0])
@pytest.mark.parametrize(("positives", "negatives"), [(10, 10), (12, 300), (250, 60)])
def test_an_area_holds_all_that_its_own_error_reaches(value, positives, negatives):
    def surprise(theta):  # Newcombe's method 5, with Hanley and McNeil's variance
        more = (positives + negatives) / 2 - 1
        factor = 1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)
        variance = theta * (1 - theta) * factor / (positives * negatives)
        return abs(value - theta) - norm.ppf(0.975) * variance**0.5

    low, high = exact.area(value, positives, negatives)
    inside = np.clip(value, 1e-9, 1 - 1e-9)  # At a bound its error is 0, and so is the surprise.
    assert low == pytest.approx(brentq(surprise, 1e-12, inside) if value > 0 else 0, abs=1e-6)
    assert high == pytest.approx(brentq(surprise, inside, 1 - 1e-12) if value < 1 else 1, abs=1e-6)
    mirrored = exact.area(1 - value, negatives, positives)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-9)


def test_a_perfect_area_of_few_groups_says_no_more_than_so_many_pairs():
    for pairs in (1, 2, 5, 9):
        assert exact.area(1.0, pairs, 400) == (pytest.approx(0.025 ** (1 / pairs)), 1)
    assert exact.area(0.7, 0, 5) == (0, 1)


def test_f1_follows_from_the_overlap():
    # tp 6, fn 2, fp 1: F1 = 12 / 15, the overlap 6 of 9.
    low, high = binomtest(6, 9).proportion_ci(0.95, method="exact")
    assert exact.f1(6 / 9, 9) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))


def test_the_sides_of_a_mean_add_up_as_errors_do():
    found = exact.mean([0.9, 0.8], [(0.6, 1.0), (0.4, 0.9)], 50)
    assert found == pytest.approx((0.85 - 0.25, 0.85 + np.hypot(0.1, 0.1) / 2))
    assert exact.mean([0.9, 0.8], [(0.6, 1.0), (0.4, 0.9)], 9) == pytest.approx((0.5, 0.95))
    assert exact.mean([0.9], [(0.6, 1.0)], 50) == pytest.approx((0.6, 1.0))


@pytest.mark.parametrize("groups", [1, 3, 5, 9, 10, 25])
def test_the_mean_of_two_shares_is_covered(groups):
    """By counting every outcome of two classes; so that balanced accuracy is no narrower than it may be."""
    counts = range(groups + 1)
    one = [exact.proportion(found / groups, groups) for found in counts]
    ends = np.array(
        [[exact.mean([a / groups, b / groups], [one[a], one[b]], groups) for b in counts] for a in counts]
    )
    for first in (0.3, 0.5, 0.7, 0.85, 0.95):
        for second in (first, 0.9):
            chance = np.outer(binom.pmf(counts, groups, first), binom.pmf(counts, groups, second))
            truth = (first + second) / 2
            covered = chance[(ends[..., 0] <= truth) & (truth <= ends[..., 1])].sum()
            assert covered > 0.93, (first, second, covered)


@pytest.mark.parametrize(
    ("value", "groups", "classes", "expected"),
    [
        (1.0, 10, 2, (2 * 0.025 ** (1 / 20) - 1, 1)),  # 20 groups, all right
        (-1.0, 10, 2, (-1, 1 - 2 * 0.025 ** (1 / 20))),
        (1.0, 10, 4, ((4 * 0.025 ** (1 / 40) - 1) / 3, 1)),
        (0.0, 5, 2, tuple(2 * end - 1 for end in exact.proportion(0.5, 10))),
        (
            -0.8,
            5,
            3,
            (-0.8, (3 * exact.proportion(0, 15)[1] - 1) / 2),
        ),  # below -1/2
        (0.5, 0, 2, (-1, 1)),
    ],
)
def test_a_correlation_is_a_share_of_the_groups_of_classes_of_one_size(value, groups, classes, expected):
    assert exact.correlation(value, groups, classes) == pytest.approx(expected)
