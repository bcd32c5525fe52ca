"""The models and the few settings of each that are compared.

pca_svm: principal components (randomized, whitened), then a support vector machine with a Gaussian kernel.
The kernel is approximated by its values at 500 train records (Nystroem), so that the machine is linear in
them: its time grows with the images, where an exact one's grows with their square or more. Williams and
Seeger, "Using the Nystroem Method to Speed Up Kernel Machines" (2001).

logistic: each pixel brought to mean 0 and variance 1, then logistic regression with an L2 penalty.

random_forest: trees on resampled records. The grid is searched with fewer trees than the model has in the
end: more trees make an average surer, they hardly change which setting is best. Breiman, "Random Forests"
(2001).
"""

from collections.abc import Mapping
from typing import Any, Final

Setting = Mapping[str, float | str]

GRIDS: Final[Mapping[str, tuple[Setting, ...]]] = {
    "pca_svm": tuple(
        {"components": components, "gamma": gamma, "C": c}
        for components in (25, 50, 100)
        for gamma in (0.5, 1.0)  # over the number of components: the squared distance grows with it
        for c in (0.3, 1.0, 3.0)
    ),
    "logistic": tuple({"C": c} for c in (1e-4, 1e-3, 1e-2, 1e-1)),
    "random_forest": tuple(
        {"max_features": part, "min_samples_leaf": leaf} for part in ("log2", "sqrt") for leaf in (1, 5)
    ),
}
SEARCHED_TREES: Final = 50
TREES: Final = 300
LANDMARKS: Final = 500  # train records at which the kernel is computed
_MOST_ITERATIONS: Final = 2000


def build(model: str, setting: Setting, shape: tuple[int, int], seed: int, *, trees: int = TREES) -> Any:
    """Returns a pipeline of scikit-learn that is not fitted yet.

    Args:
        model: one of `GRIDS`.
        setting: one of its grid.
        shape: (records, features) that it will be fitted on.
        seed: of what it draws.
        trees: of a forest.
    """
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if model == "random_forest":
        forest = RandomForestClassifier(
            trees,
            max_features=setting["max_features"],
            min_samples_leaf=setting["min_samples_leaf"],
            random_state=seed,
        )
        return Pipeline([("forest", forest)])
    # What is fitted on is a copy already, or not needed any more.
    scaler = StandardScaler(copy=False)
    if model == "logistic":
        return Pipeline(
            [("scale", scaler), ("logistic", LogisticRegression(C=setting["C"], max_iter=_MOST_ITERATIONS))]
        )
    records, features = shape
    components = max(1, min(int(setting["components"]), records - 1, features))
    return Pipeline(
        [
            ("scale", scaler),
            (
                "components",
                PCA(components, svd_solver="randomized", whiten=True, copy=False, random_state=seed),
            ),
            (
                "kernel",
                Nystroem(
                    gamma=float(setting["gamma"]) / components,
                    n_components=min(LANDMARKS, records),
                    random_state=seed,
                ),
            ),
            ("machine", LinearSVC(C=setting["C"], dual=False, max_iter=_MOST_ITERATIONS)),
        ]
    )


def in_words(setting: Setting) -> str:
    """Returns a setting as "C=1, gamma=0.5"."""
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in setting.items()
    )
