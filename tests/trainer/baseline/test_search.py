import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from tfrecords.errors import InputError
from trainer.baseline.grids import GRIDS, in_words
from trainer.baseline.reading import TrainSplit
from trainer.baseline.search import auroc, fit, group_folds, search
from trainer.classical.saved import Fitted

NAMES = ("a", "b", "c")


def drawn(classes=2, records=150, seed=0):
    """Records of which three follow each other in a group, and share its label."""
    random = np.random.default_rng(seed)
    groups = np.arange(records) // 3
    labels = (groups * 7 % 10) % classes
    features = random.normal(0, 1, (records, 15)).astype(np.float32)
    features[:, :classes] += np.eye(classes)[labels]
    return TrainSplit(features, labels, groups)


def crossing(folds, groups):
    return [len(np.intersect1d(groups[fit], groups[out])) for fit, out in folds]


@pytest.mark.parametrize("classes", [2, 3])
def test_no_group_is_in_two_folds(classes):
    train = drawn(classes)
    folds = group_folds(train.labels, train.groups, most=5, seed=0, class_names=NAMES[:classes])
    assert len(folds) == 5
    assert crossing(folds, train.groups) == [0] * 5
    out = np.concatenate([held for _, held in folds])
    assert np.sort(out).tolist() == list(range(150))
    for fit_on, held in folds:
        assert set(train.labels[fit_on]) == set(train.labels[held]) == set(range(classes))
    # What folds by record would do: the test above can fail.
    by_record = KFold(5, shuffle=True, random_state=0).split(train.features)
    assert min(crossing(by_record, train.groups)) > 0


def test_the_seed_decides_the_folds():
    train = drawn()

    def folds(seed):
        return [
            held.tolist()
            for _, held in group_folds(train.labels, train.groups, most=5, seed=seed, class_names=NAMES[:2])
        ]

    assert folds(0) == folds(0) != folds(1)


def test_there_are_as_many_folds_as_the_rarest_class_has_groups():
    labels, groups = np.array([0] * 20 + [1] * 6), np.array([*range(20), 20, 20, 21, 21, 22, 22])
    assert len(group_folds(labels, groups, most=5, seed=0, class_names=NAMES[:2])) == 3


def test_a_class_of_one_group_is_named(facts):
    labels, groups = np.array([0] * 20 + [1] * 6), np.array([*range(20), *[20] * 6])
    with pytest.raises(InputError, match=r"'b' has 1 groups"):
        group_folds(labels, groups, most=5, seed=0, class_names=NAMES[:2])


def test_auroc_of_two_classes_and_of_more():
    random = np.random.default_rng(0)
    found = random.dirichlet(np.ones(3), 60)
    labels = random.integers(0, 3, 60)
    macro = roc_auc_score(labels, found, multi_class="ovr", average="macro")
    assert auroc(labels, found) == pytest.approx(macro)
    two = labels % 2
    assert auroc(two, np.stack([-found[:, 0], found[:, 0]], axis=1)) == roc_auc_score(two, found[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("model", GRIDS)
def test_the_result_is_the_same_for_any_number_of_jobs(model, classes):
    results = []
    for jobs in (1, 2):
        train = drawn(classes)
        folds = group_folds(train.labels, train.groups, most=3, seed=0, class_names=NAMES[:classes])
        kept, said = {}, []
        best = search(
            train, folds, model, seed=0, jobs=jobs, known={}, keep=kept.__setitem__, log=said.append
        )
        assert len(said) == len(kept) == len(GRIDS[model])
        assert best.auroc == max(np.mean(each) for each in kept.values())
        pipeline, calibration = fit(train, folds, model, best.setting, seed=0, jobs=jobs)
        assert (calibration is not None) == (model == "pca_svm")
        fitted = Fitted(pipeline, calibration, 4, (4, 4, 1), classes)
        answers = fitted.probabilities(drawn(classes, seed=1).features)
        results.append((best, kept, answers.tobytes()))
        assert auroc(train.labels, answers) > 0.7  # of others drawn the same way
    assert results[0] == results[1]


def test_what_is_known_is_not_fitted_again():
    train, model = drawn(), "logistic"
    folds = group_folds(train.labels, train.groups, most=3, seed=0, class_names=NAMES[:2])
    kept, said = {}, []
    first = search(train, folds, model, seed=0, jobs=1, known={}, keep=kept.__setitem__, log=said.append)
    stored = json.loads(json.dumps(kept))  # as the file has it
    last = in_words(GRIDS[model][-1])
    known = {name: scores for name, scores in stored.items() if name != last}
    again = {}
    second = search(train, folds, model, seed=0, jobs=1, known=known, keep=again.__setitem__, log=said.append)
    assert first == second
    assert again == {last: kept[last]}


@pytest.mark.slow
def test_probabilities_of_the_support_vector_machine_are_calibrated():
    """On records that it has not seen the mean probability is near the share of the class."""
    train = drawn(records=600)
    folds = group_folds(train.labels, train.groups, most=5, seed=0, class_names=NAMES[:2])
    pipeline, calibration = fit(train, folds, "pca_svm", GRIDS["pca_svm"][0], seed=0, jobs=1)
    other = drawn(records=600, seed=1)
    found = Fitted(pipeline, calibration, 4, (4, 4, 1), 2).probabilities(other.features)[:, 1]
    sure = found > 0.7
    assert sure.sum() > 50
    assert other.labels[sure].mean() == pytest.approx(found[sure].mean(), abs=0.1)


def test_an_error_in_a_fit_is_raised_at_once():
    train = drawn()
    bad = TrainSplit(train.features, np.zeros_like(train.labels), train.groups)
    folds = group_folds(train.labels, train.groups, most=3, seed=0, class_names=NAMES[:2])
    with pytest.raises(ValueError, match="class"):
        search(bad, folds, "logistic", seed=0, jobs=2, known={}, keep=lambda *_: None, log=lambda _: None)
