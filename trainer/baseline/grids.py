"""The classical models, and the settings of each that are compared.

pca_svm: principal components (randomized, whitened), then a support vector machine with a Gaussian kernel.
The kernel is approximated by its values at 500 train records (Nystroem), and the machine is linear in them.
So its time grows in proportion to the images; that of an exact one grows with their square or faster.
Williams and Seeger, "Using the Nystroem Method to Speed Up Kernel Machines" (2001).

logistic: each pixel brought to mean 0 and variance 1, then logistic regression with an L2 penalty.

random_forest: trees on resampled records. The settings are compared with fewer trees than the final model
has: more trees steady the average but hardly change which setting is best. Breiman, "Random Forests" (2001).
"""

from collections.abc import Mapping
from typing import Any, Final

Setting = Mapping[str, float | str]

GRIDS: Final[Mapping[str, tuple[Setting, ...]]] = {
    "pca_svm": tuple(
        {"components": components, "gamma": gamma, "C": c}
        for components in (25, 50, 100)
        # `build` divides it by the number of components, because the squared distance grows with that.
        for gamma in (0.5, 1.0)
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
    """Returns a scikit-learn pipeline that is not fitted yet.

    Args:
        model: one of `GRIDS`.
        setting: one of its grid.
        shape: (records, features) of what it will be fitted on.
        seed: of its random numbers.
        trees: number of trees of a forest.
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
    # The features are a copy already, or not needed any more.
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
