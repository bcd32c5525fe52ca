"""What a report says, once more, from its predictions.csv by scikit-learn and scipy alone.

Nothing of the project is imported. `from recomputation import recomputed, youden`.
"""

import csv
import json

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, norm
from sklearn import metrics
from sklearn.preprocessing import label_binarize

MACRO = ("auroc", "auprc", "sensitivity", "specificity", "precision", "f1", "balanced_accuracy")


def read(folder):
    """Class names, groups [N], labels [N], probabilities [N, K] and the predicted names [N]."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name.removeprefix("probability_") for name in rows[0] if name.startswith("probability_")]
    table = np.array([[float(row[f"probability_{name}"]) for name in names] for row in rows])
    labels = np.array([names.index(row["label"]) for row in rows])
    return names, np.array([row["group"] for row in rows]), labels, table, [row["predicted"] for row in rows]


def youden(truth, scores):
    """The threshold with the highest Youden index: the middle of the widest gap that has it."""
    fpr, tpr, at = metrics.roc_curve(truth, scores, drop_intermediate=False)
    index = (tpr - fpr)[1:-1]  # neither all nor none predicted positive
    best = np.flatnonzero(np.isclose(index, index.max())) + 1
    gaps = [(at[i + 1] - at[i], abs((at[i] + at[i + 1]) / 2 - 0.5), (at[i] + at[i + 1]) / 2) for i in best]
    return min(gaps)[-1]


def recomputed(folder, *, resamples):
    """Returns {decision: {metric: (value, low, high)}} of a report directory; None where there is none."""
    report = json.loads((folder / "report.json").read_text())
    names, groups, labels, table, written = read(folder)
    positive = names.index(report["positive"]) if len(names) == 2 else None
    out = {}
    for key, decision in report["decisions"].items():
        predicted = table.argmax(axis=1)
        if positive is not None:
            predicted = np.where(table[:, positive] >= decision["threshold"], positive, 1 - positive)
        if key == "chosen" or len(report["decisions"]) == 1:
            assert [names[k] for k in predicted] == written
        assert (
            metrics.confusion_matrix(labels, predicted, labels=range(len(names))).tolist()
            == decision["confusion"]
        )
        values = by_sklearn(labels, predicted, table, positive)
        ends = bootstrapped(groups, labels, predicted, table, positive, resamples, report["seed"])
        exact = exactly(groups, labels, predicted, table, positive)
        out[key] = {
            name: _interval(value, ends[name], *exact[name], least=-(name == "mcc"))
            for name, value in values.items()
        }
    return out


def _interval(value, ends, effective, exact, least=0):
    if np.isnan(value):
        return None, None, None
    low, high = ends
    if effective >= 50 and high - low > 1e-9 and (exact is None or (low > least + 1e-9 and high < 1 - 1e-9)):
        return value, low, high
    return (value, None, None) if exact is None else (value, min(low, exact[0]), max(high, exact[1]))


def mcc(y, predicted):
    """NaN where it is undefined; scikit-learn gives 0, and warns."""
    return np.nan if 1 in (len(set(y)), len(set(predicted))) else metrics.matthews_corrcoef(y, predicted)


def by_sklearn(y, predicted, table, positive):
    classes = range(table.shape[1])
    there = {k for k in classes if (y == k).any()}
    whole = len(there) == len(classes)
    told = {
        "accuracy": metrics.accuracy_score(y, predicted),
        "loss": metrics.log_loss(y, table, labels=list(classes)),
        "mcc": mcc(y, predicted),
    }
    if positive is None:
        one_hot = label_binarize(y, classes=list(classes))
        told["brier"] = float(np.mean(((one_hot - table) ** 2).sum(axis=1)))
        if not whole:
            return told | dict.fromkeys(MACRO, np.nan)
        each = metrics.multilabel_confusion_matrix(y, predicted, labels=list(classes))
        return told | {
            "auroc": metrics.roc_auc_score(y, table, multi_class="ovr"),
            "auprc": metrics.average_precision_score(one_hot, table),
            "sensitivity": metrics.recall_score(y, predicted, average="macro"),
            "specificity": float(np.mean(each[:, 0, 0] / each[:, 0].sum(axis=1))),
            "precision": metrics.precision_score(y, predicted, average="macro", zero_division=0),
            "f1": metrics.f1_score(y, predicted, average="macro", zero_division=0),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted),
        }
    score, some = table[:, positive], positive in there
    truth, calls = y == positive, predicted == positive
    return told | {
        "auroc": metrics.roc_auc_score(truth, score) if whole else np.nan,
        "auprc": metrics.average_precision_score(truth, score) if some else np.nan,
        "sensitivity": metrics.recall_score(truth, calls) if some else np.nan,
        "specificity": metrics.recall_score(~truth, ~calls) if 1 - positive in there else np.nan,
        "precision": metrics.precision_score(truth, calls, zero_division=0) if some else np.nan,
        "f1": metrics.f1_score(truth, calls, zero_division=0) if some else np.nan,
        "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted) if whole else np.nan,
        "brier": metrics.brier_score_loss(truth, score, pos_label=True),
    }


def bootstrapped(groups, y, predicted, table, positive, resamples, seed):
    """The percentiles over groups drawn with replacement, each with all of its records."""
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    generator, samples = np.random.default_rng(seed), []
    for _ in range(resamples):
        rows = np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])
        samples.append(by_sklearn(y[rows], predicted[rows], table[rows], positive))
    ends = {}
    for name in samples[0]:
        defined = [sample[name] for sample in samples if not np.isnan(sample[name])]
        ends[name] = np.percentile(defined, (2.5, 97.5)) if defined else (np.inf, -np.inf)
    return ends


def exactly(groups, y, predicted, table, positive):
    """By metric the effective groups, and the interval by Clopper and Pearson, Newcombe, or none."""
    classes = list(range(table.shape[1]))
    shown = classes if positive is None else [positive]

    def effective(mask):
        sizes = np.unique(groups[mask], return_counts=True)[1].astype(float)
        return sizes.sum() ** 2 / (sizes**2).sum() if sizes.size else 0.0

    def share(hits, among):
        n, p = effective(among), (hits & among).sum() / max(among.sum(), 1)
        low = beta.ppf(0.025, p * n, (1 - p) * n + 1) if p * n > 0 else 0.0
        high = beta.ppf(0.975, p * n + 1, (1 - p) * n) if (1 - p) * n > 0 else 1.0
        return n, p, low, high

    def ranked(k, score):
        m, n = effective(y == k), effective(y != k)
        value = metrics.roc_auc_score(y == k, score)

        def surprise(theta):
            more = (m + n) / 2 - 1
            factor = 1 + more * (1 - theta) / (2 - theta) + more * theta / (1 + theta)
            return abs(value - theta) - norm.ppf(0.975) * (theta * (1 - theta) * factor / (m * n)) ** 0.5

        inside = np.clip(value, 1e-9, 1 - 1e-9)
        low = brentq(surprise, 1e-12, inside) if value > 0 else 0.0
        high = brentq(surprise, inside, 1 - 1e-12) if value < 1 else 1.0
        if (few := min(m, n)) < 10:
            low = min(low, beta.ppf(0.025, value * few, (1 - value) * few + 1) if value > 0 else 0.0)
            high = max(high, beta.ppf(0.975, value * few + 1, (1 - value) * few) if value < 1 else 1.0)
        return few, value, low, high

    def precise(k, score):
        few, p = min(effective(y == k), effective(y != k)), metrics.average_precision_score(y == k, score)
        low = beta.ppf(0.025, p * few, (1 - p) * few + 1) if p > 0 else 0.0
        return few, p, low, beta.ppf(0.975, p * few + 1, (1 - p) * few) if p < 1 else 1.0

    def f1(k):
        n, p, low, high = share((y == k) & (predicted == k), (y == k) | (predicted == k))
        return n, *(2 * end / (1 + end) for end in (p, low, high))

    def mean(parts):
        n, values, lows, highs = (np.array(column) for column in zip(*parts, strict=True))
        if n.min() * len(parts) < 20:
            return n.min(), (lows.mean(), highs.mean())
        below, above = (np.sqrt(((values - ends) ** 2).sum()) / len(parts) for ends in (lows, highs))
        return n.min(), (max(values.mean() - below, 0), min(values.mean() + above, 1))

    def correlation():
        there = [k for k in classes if (y == k).any()]
        n, size = min(effective(y == k) for k in there), len(there)
        share = (1 + (size - 1) * np.nan_to_num(mcc(y, predicted))) / size
        low = beta.ppf(0.025, share * size * n, (1 - share) * size * n + 1) if share > 0 else 0.0
        high = beta.ppf(0.975, share * size * n + 1, (1 - share) * size * n) if share < 1 else 1.0
        return n, tuple((size * end - 1) / (size - 1) for end in (low, high))

    everyone = np.ones(len(y), bool)
    return {
        "accuracy": mean([share(predicted == y, everyone)]),
        "auroc": mean([ranked(k, table[:, k]) for k in shown]),
        "auprc": mean([precise(k, table[:, k]) for k in shown]),
        "sensitivity": mean([share(predicted == k, y == k) for k in shown]),
        "specificity": mean([share(predicted != k, y != k) for k in shown]),
        "precision": mean([share(y == k, predicted == k) for k in shown]),
        "f1": mean([f1(k) for k in shown]),
        "balanced_accuracy": mean([share(predicted == k, y == k) for k in classes]),
        "mcc": correlation(),
        "loss": (effective(everyone), None),
        "brier": (effective(everyone), None),
    }
