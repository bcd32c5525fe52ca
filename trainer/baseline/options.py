"""The options of a baseline."""

from dataclasses import dataclass
from typing import Any

from data_pipeline.options import LARGEST_SEED
from tfrecords.errors import InputError
from trainer.config import BASELINES, TrainConfig


@dataclass(frozen=True)
class BaselineOptions:
    """A baseline, validated when built.

    Attributes:
        data: folder of the converted data set.
        run_dir: folder of the run.
        model: one of `trainer.config.BASELINES`.
        pixels: longer side of the grey images that the model sees.
        folds: of the comparison of settings; fewer where a class has fewer groups.
        seed: of the folds and of the model's random numbers.
        jobs: how many models are fitted at the same time; 0: as many as cores and memory allow. It changes no
            result.
        data_url: where the data set came from, if that was a URL.
        positive: of two classes the finding; see `TrainConfig`.
    """

    data: str
    run_dir: str
    model: str = "pca_svm"
    pixels: int = 64
    folds: int = 5
    seed: int = 0
    jobs: int = 0
    data_url: str = ""
    positive: str = ""

    def __post_init__(self) -> None:
        if self.model not in BASELINES:
            raise InputError(f"--model={self.model}: must be one of {', '.join(BASELINES)}")
        if not 1 <= self.pixels <= 256:
            raise InputError(f"--pixels={self.pixels}: must be from 1 to 256")
        if not 2 <= self.folds <= 20:
            raise InputError(f"--folds={self.folds}: must be from 2 to 20")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"--seed={self.seed}: must be from 0 to {LARGEST_SEED}")
        if self.jobs < 0:
            raise InputError(f"--jobs={self.jobs}: must be 0 or more")

    @property
    def config(self) -> TrainConfig:
        """The part of the configuration that a baseline shares with a network."""
        return TrainConfig.of(
            data=self.data,
            run_dir=self.run_dir,
            model=self.model,
            seed=self.seed,
            data_url=self.data_url,
            positive=self.positive,
        )

    @property
    def own(self) -> dict[str, Any]:
        """The options that only a baseline has and that its result depends on."""
        return {"pixels": self.pixels, "folds": self.folds}
