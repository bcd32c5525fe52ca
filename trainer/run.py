"""The run directory: the configuration of a run, and all that it makes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from data_pipeline.tiers.choice import AUTO, ChosenTier
from data_pipeline.tiers.registry import tier_named
from tfrecords.errors import InputError
from tfrecords.files.atomic import file_sha256, publish, write_atomically
from tfrecords.manifest import Manifest
from trainer.config import BASELINES, TrainConfig
from trainer.lock import LOCK_NAME
from trainer.result import Result

CONFIG_NAME: Final = "config.json"
RESULT_NAME: Final = "result.json"
SEEDS_NAME: Final = "seeds.json"  # of a folder with a run for each seed, which holds their average as a run
MODEL_NAME: Final = "model.keras"
BASELINE_MODEL_NAME: Final = "model.skops"
_THRESHOLD_NAME: Final = "threshold.json"  # of versions before result.json
# The fields of a configuration that a baseline has too.
_OF_A_BASELINE: Final = ("data", "run_dir", "model", "seed", "data_url", "devices", "positive")


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of the data it was trained on.

    Attributes:
        name: of the data set.
        class_names: in the order of the logits.
        image_shape: (height, width, channels).
        plan: fingerprint of the conversion.
        resize: how images were resized to their shape; see `Manifest`.
        value_range: how pixels of more than 8 bits were scaled; see `Manifest`.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    plan: str
    resize: str = "stretch"
    value_range: str = "full"

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Returns the facts in a manifest."""
        return cls(
            manifest.name,
            manifest.class_names,
            manifest.image_shape,
            manifest.plan,
            manifest.resize,
            manifest.value_range,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads, without later fields that have their default."""
        later = {"resize": "stretch", "value_range": "full"}
        return {name: value for name, value in asdict(self).items() if later.get(name) != value}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Returns the facts that a file holds, with defaults for later fields."""
        lists = {name: tuple(values[name]) for name in ("class_names", "image_shape")}
        return cls(**{**values, **lists})


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        config: its configuration.
        data: what its model must know of the data.
        facts: configuration and data in words.
        tier: where its train split is held; None: not chosen yet, or not recorded by an earlier version.
        precision: the Keras dtype policy that --precision stands for; "": not recorded by an earlier version.
        threads: TensorFlow's threads, on which the bits of the weights depend; 0: not recorded.
        diverged: the step after which the loss was not finite, which ended the run; None: it was finite.
        baseline: the flags that only a run of `trainer.baseline` has; None for a network.
    """

    config: TrainConfig
    data: DataFacts
    facts: Mapping[str, str]
    tier: ChosenTier | None = None
    precision: str = ""
    threads: int = 0
    diverged: int | None = None
    baseline: Mapping[str, Any] | None = None

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
        """The file of the trained model, Keras' or a baseline's; it exists once training has ended."""
        return self.folder / (BASELINE_MODEL_NAME if self.config.model in BASELINES else MODEL_NAME)

    def report(self, name: str) -> Path:
        """Folder of a report; reports on the run's own data are named after the split."""
        return self.folder / "report" / name

    def trained_on(self, manifest: Manifest) -> bool:
        """Returns whether a data set is the run's own; its plan decides, as data are moved and copied."""
        return manifest.plan == self.data.plan

    def sweep(self) -> None:
        """Removes files that a kill has left half written; only the holder of the lock may call it."""
        for path in self.folder.glob(".*"):
            if not path.name.startswith(f".{LOCK_NAME}."):
                path.unlink(missing_ok=True)

    def save(self) -> None:
        """Writes the configuration, and what was chosen from it.

        Raises:
            InputError: it cannot be written.
        """
        values: dict[str, Any] = {
            "config": self.config.to_stored(),
            "data": self.data.to_json(),
            "facts": self.facts,
            "tier": asdict(self.tier) if self.tier else None,
            "precision": self.precision,
            "threads": self.threads,
            "diverged": self.diverged,
        }
        if self.baseline is not None:  # a baseline has no epochs, so a table must not show any
            values["config"] = {k: values["config"][k] for k in _OF_A_BASELINE if k in values["config"]}
            values["baseline"] = self.baseline
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / CONFIG_NAME, (json.dumps(values, indent=1) + "\n").encode())
        except OSError as error:
            raise InputError(f"--run_dir={self.folder}: cannot be written: {error.strerror}") from None

    @classmethod
    def stored(cls, config: TrainConfig, manifest: Manifest, policy: str = "") -> Self | None:
        """Returns the run that is in the directory of a configuration; None if there is none.

        Args:
            config: of the run to start.
            manifest: of its data.
            policy: the Keras dtype policy that --precision stands for; "" for auto.

        Raises:
            InputError: the directory holds another run, or other files.
        """
        folder = Path(config.run_dir)
        if (folder / SEEDS_NAME).exists():
            raise InputError(
                f"--run_dir={folder}: holds the runs of several seeds and their average; give --seeds to go "
                f"on with them, or choose another --run_dir"
            )
        if (folder / CONFIG_NAME).exists():
            there = cls.load(folder)
            there.refuse_other(there.kept(config), DataFacts.of(manifest), policy)
            return there
        found = list(folder.iterdir()) if folder.is_dir() else []
        # The lock, and what a kill in the run's first moment leaves, are not other files.
        if not all(path.name.removeprefix(".").startswith((CONFIG_NAME, LOCK_NAME)) for path in found):
            raise InputError(
                f"--run_dir={folder}: is not empty and holds no run; choose a new or empty folder"
            )
        return None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Opens a run directory.

        Raises:
            InputError: it holds no run, or its configuration is damaged.
        """
        path = folder / CONFIG_NAME
        try:
            values: dict[str, Any] = json.loads(path.read_bytes())
            config = TrainConfig.from_json({**values["config"], "run_dir": str(folder)})
            known = DataFacts.from_json(values["data"])
            tier = values.get("tier")
            return cls(
                config,
                known,
                values["facts"],
                ChosenTier(**tier) if tier else None,
                values.get("precision", ""),
                values.get("threads", 0),
                values.get("diverged"),
                values.get("baseline"),
            )
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"--run_dir={folder}: holds no run, because there is no {CONFIG_NAME}; make a run with\n"
                f"  python -m trainer.main --data=DATA --run_dir={folder}"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            why = str(error) if isinstance(error, InputError) else repr(error)
            raise InputError(
                f"{path}: is damaged or of another version ({why}); train into another --run_dir"
            ) from None

    def publish(self, model: Path, result: Result) -> None:
        """Gives a model file its final name, and then the result that names it.

        Args:
            model: a complete file in the run directory.
            result: made with that file.

        Raises:
            OSError: they cannot be written.
        """
        publish(model, self.model)
        self.save_result(result)

    def save_result(self, result: Result) -> None:
        """Writes the result of the model that is there."""
        write_atomically(self.folder / RESULT_NAME, (json.dumps(asdict(result), indent=1) + "\n").encode())
        (self.folder / _THRESHOLD_NAME).unlink(missing_ok=True)  # of a version before: the result has it

    def result(self) -> Result:
        """Returns the run's result, whose model is the one that is there.

        Raises:
            InputError: there is none yet, or the run was stopped while it was published.
        """
        if not self.model.exists():
            raise InputError(f"{self.model}: does not exist yet: the run has not ended; {self._again}")
        sha256 = file_sha256(self.model)
        result = self.stored_result() or self._result_of_before(sha256)
        if result.model_sha256 != sha256:
            raise InputError(
                f"{self.model}: is not the model that {RESULT_NAME} was written for; the run was stopped "
                f"between the two files, or the model was changed; {self._again}"
            )
        return result

    def stored_result(self) -> Result | None:
        """Returns what result.json says, without a look at the model; None: there is no such file yet.

        Raises:
            InputError: it is damaged.
        """
        path = self.folder / RESULT_NAME
        try:
            values = json.loads(path.read_bytes())
            values["chosen_on_groups"] = tuple(values.get("chosen_on_groups", ()))
            return Result(**values)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: is damaged or of another version ({error}); {self._again}") from None

    @property
    def _again(self) -> str:
        return f"run the command that started it again, with --run_dir={self.folder}"

    def _result_of_before(self, sha256: str) -> Result:
        """Returns the result of a run of an earlier version, which wrote no result.json."""
        try:
            rows = json.loads((self.folder / "history.json").read_text())
            losses = [row["val_loss"] for row in rows]
            threshold = None
            if (self.folder / _THRESHOLD_NAME).exists():
                threshold = float(json.loads((self.folder / _THRESHOLD_NAME).read_bytes())["threshold"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"--run_dir={self.folder}: is damaged ({error!r}); train again") from None
        best = min(range(len(losses)), key=losses.__getitem__)
        return Result(
            sha256, best + 1, losses[best], len(rows), 0, threshold, 0, self.data.plan, self.precision
        )

    def kept(self, config: TrainConfig) -> TrainConfig:
        """Returns a configuration of this run with the tier that pipeline.json set at the run's first start.

        If the file of --weights is gone, its hash is kept too.

        The tier may decide the order of records, so a run keeps it, whatever pipeline.json says now. A tier
        that --cache names stays. The other options of pipeline.json change the speed only.

        Raises:
            InputError: that tier cannot be used with what is asked for now.
        """
        if not config.weights_sha256 and config.weights == self.config.weights:  # the checkpoints have them
            config = config.changed(weights_sha256=self.config.weights_sha256)
        if config.pipeline.cache != "auto" and "cache" not in config.tuned:
            return config
        others = tuple(name for name in config.tuned if name != "cache")
        if "cache" in self.config.tuned:
            return config.changed(cache=self.config.pipeline.cache, tuned=("cache", *others))
        return config.changed(cache="auto", tuned=others)

    def refuse_other(self, config: TrainConfig, data: DataFacts, policy: str = "") -> None:
        """Refuses to resume this run with another configuration.

        Args:
            config: of this start.
            data: of this start.
            policy: see `stored`.

        Raises:
            InputError: they describe another run; names each difference.
        """
        mine, theirs = config.to_json(), self.config.to_json()
        # The data may be moved: their plan identifies them.
        ignored = self.config.free_to_change | {"run_dir", "data"}
        # A tier may take the place of another one that shows the records in the same order.
        if self.tier and (
            config.pipeline.cache == AUTO or tier_named(config.pipeline.cache).order == self.tier.tier.order
        ):
            ignored |= {"cache"}
        if policy and policy == self.precision:
            ignored |= {"precision"}
        if self.threads in (config.threads_per_process, 0) or not config.threads_per_process:
            ignored |= {"threads_per_process"}
        others = []
        for name in ("sampling", "model", "weights"):
            now, then = mine[f"{name}_sha256"], theirs[f"{name}_sha256"]
            ignored |= {f"{name}_sha256"}  # not a flag
            if now and then and now != then:
                others.append(f"--{name}={mine[name]}: has other content now than the file had there")
            elif now and then and ":" not in f"{mine[name]}{theirs[name]}" * (name == "model"):
                ignored |= {name}  # the file may be moved, but one file may have several functions
        if self.diverged is not None:  # a lower rate is how it goes on
            ignored |= {"learning_rate"}
        changed = [
            f"--{name}={theirs[name]} there, --{name}={mine[name]} now"
            for name in mine
            if name not in ignored and _plain(mine[name]) != _plain(theirs[name])
        ]
        changed += others
        if self.data != data:
            changed.append(f"--data: {self.data.name} there, {data.name} now, or converted otherwise")
        if changed:
            raise InputError(
                f"--run_dir={self.folder}: holds a run of another configuration ({'; '.join(changed)}); "
                f"choose another --run_dir, or give the same flags to resume"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
