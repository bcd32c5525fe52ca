"""The run directory: the one place with all that a run was told and made."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from data_pipeline.tiers.choice import Tier
from tfrecords.errors import InputError
from tfrecords.files import write_atomically
from tfrecords.manifest import Manifest
from trainer.config import TrainConfig

CONFIG_NAME: Final = "config.json"
THRESHOLD_NAME: Final = "threshold.json"


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of the data it was trained on.

    Attributes:
        name: of the data set.
        class_names: in the order of the logits.
        image_shape: (height, width, channels).
        plan: fingerprint of the conversion.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    plan: str

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Returns the facts in a manifest."""
        return cls(manifest.name, manifest.class_names, manifest.image_shape, manifest.plan)


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        config: its configuration.
        data: what its model must know of the data.
        facts: both in words.
        tier: where its train split comes from; None: not chosen, or by a version that did not keep it.
    """

    config: TrainConfig
    data: DataFacts
    facts: Mapping[str, str]
    tier: Tier | None = None

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.config.run_dir)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard files."""
        return self.folder / "tensorboard"

    @property
    def model(self) -> Path:
        """The trained model, a Keras file; it is there once training has ended."""
        return self.folder / "model.keras"

    def report(self, split: str) -> Path:
        """Folder of the report on a split."""
        return self.folder / "report" / split

    @classmethod
    def open(
        cls,
        config: TrainConfig,
        manifest: Manifest,
        facts: Mapping[str, str],
        *,
        write: bool,
        tier: Tier | None = None,
    ) -> Self:
        """Makes the run directory, or opens the one that is there for the same run.

        Args:
            config: of the run.
            manifest: of its data.
            facts: the run in words.
            write: whether this process may write (the chief).
            tier: where its train split comes from.

        Raises:
            InputError: the directory holds another run, or cannot be written.
        """
        run = cls(config, DataFacts.of(manifest), facts, tier)
        path = run.folder / CONFIG_NAME
        if path.exists():
            run._refuse_other(cls.load(run.folder))
        elif write and run._holds_other_things():
            raise InputError(
                f"--run_dir={run.folder}: is not empty and holds no run; choose a new or empty folder"
            )
        if write:
            try:
                run.folder.mkdir(parents=True, exist_ok=True)
                values = {
                    "config": config.to_json(),
                    "data": asdict(run.data),
                    "facts": facts,
                    "tier": asdict(tier) if tier else None,
                }
                write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
            except OSError as error:
                raise InputError(f"--run_dir={run.folder}: cannot be written: {error.strerror}") from None
        return run

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Opens a run directory.

        Raises:
            InputError: there is no run in it, or its configuration is damaged.
        """
        path = folder / CONFIG_NAME
        try:
            values: dict[str, Any] = json.loads(path.read_bytes())
            config = TrainConfig.from_json({**values["config"], "run_dir": str(folder)})
            data = values["data"]
            known = DataFacts(
                data["name"], tuple(data["class_names"]), tuple(data["image_shape"]), data["plan"]
            )
            tier = values.get("tier")
            return cls(config, known, values["facts"], Tier(**tier) if tier else None)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"--run_dir={folder}: no {CONFIG_NAME} there, so no run; make one with\n"
                f"  python -m trainer.main --data=DATA --run_dir={folder}"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            why = str(error) if isinstance(error, InputError) else repr(error)
            raise InputError(
                f"{path}: is damaged or of another version ({why}); train into another --run_dir"
            ) from None

    def save_threshold(self, threshold: float) -> None:
        """Keeps the probability of class 1 from which it is predicted, for two classes."""
        write_atomically(self.folder / THRESHOLD_NAME, f"{json.dumps({'threshold': threshold})}\n".encode())

    def threshold(self) -> float | None:
        """Returns what `save_threshold` kept; None for more than two classes: the most probable one.

        Raises:
            InputError: the run has two classes and no threshold yet.
        """
        if len(self.data.class_names) > 2:
            return None
        path = self.folder / THRESHOLD_NAME
        try:
            return float(json.loads(path.read_bytes())["threshold"])
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}: the threshold chosen on validation is not there; make it with\n"
                f"  python -m trainer.evaluate --run_dir={self.folder}"
            ) from None

    def _holds_other_things(self) -> bool:
        """Whether the folder has anything but what a kill in its first moment leaves."""
        there = self.folder.iterdir() if self.folder.is_dir() else ()
        return not all(path.name.startswith(f".{CONFIG_NAME}.") for path in there)

    def _refuse_other(self, there: Self) -> None:
        mine, theirs = self.config.to_json(), there.config.to_json()
        # The data may move; its plan says what it is.
        ignored = there.config.free_to_change | {"run_dir", "data"}
        # All tiers but the stream share one order, so they may take each other's place.
        if self.tier and there.tier and (self.tier.name == "stream") == (there.tier.name == "stream"):
            ignored |= {"cache"}
        changed = [
            f"--{name}={theirs[name]} there, --{name}={mine[name]} now"
            for name in mine
            if name not in ignored and _plain(mine[name]) != _plain(theirs[name])
        ]
        if self.data != there.data:
            changed.append(f"--data: {there.data.name} there, {self.data.name} now, or converted otherwise")
        if changed:
            raise InputError(
                f"--run_dir={self.folder}: holds a run of another configuration ({'; '.join(changed)}); "
                f"choose another --run_dir, or give the same flags to resume"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
