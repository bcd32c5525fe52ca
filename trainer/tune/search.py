"""The search as search.json keeps it: written at the first start, checked at every later one."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from tfrecords.errors import InputError
from tfrecords.files.atomic import write_atomically
from tfrecords.manifest import Manifest
from trainer.config import FREE_TO_CHANGE, TrainConfig
from trainer.run import DataFacts
from trainer.tune.journal import Event, Journal
from trainer.tune.options import IDENTITY, SearchOptions
from trainer.tune.order import Order, follow
from trainer.tune.show.overview import Parameter
from trainer.tune.space import parameters_of

SEARCH_NAME: Final = "search.json"
_VERSION: Final = 1
# What the machine that runs a trial may change of its configuration; all else belongs to the search.
_OF_A_MACHINE: Final = FREE_TO_CHANGE - {"epochs", "patience", "strategy", "logical_cpus"}


@dataclass(frozen=True)
class Search:
    """A search.

    Attributes:
        folder: of the search.
        options: of the search.
        config: of its trials, for what is not searched; precision, tier and threads are already chosen.
        data: the facts of its data.
        space: the HyperParameters that are searched, as `get_config` gives them.
        space_name: the value of --space.
        initial_points: trials that must be finished before scores are modelled.
        brackets: trials in all brackets of hyperband; 0 for other oracles.
        keras_tuner: the version of KerasTuner that makes the proposals.
    """

    folder: Path
    options: SearchOptions
    config: TrainConfig
    data: DataFacts
    space: Mapping[str, Any]
    space_name: str
    initial_points: int
    brackets: int
    keras_tuner: str

    @property
    def journal(self) -> Journal:
        """Its journal."""
        return Journal(self.folder / "journal")

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is searched."""
        return parameters_of(self.space)

    def claim(self, name: str) -> Path:
        """Folder of the lock that a worker holds while it works on something."""
        return self.folder / "claims" / name

    def trial(self, number: int) -> Path:
        """Folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    def order(self, events: list[Event]) -> Order:
        """Returns the state of the search from the events of its journal.

        Raises:
            InputError: the journal is of another version.
        """
        options = self.options
        try:
            return follow(
                events,
                parallel=options.parallel,
                executions=options.executions_per_trial,
                max_trials=options.most_trials,
                max_failures=options.most_failures,
            )
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(
                f"{self.folder}: its journal is of another version ({error!r}); begin in another --search_dir"
            ) from None

    def save(self) -> None:
        """Writes search.json; only the holder of the journal's lease may call it.

        Raises:
            InputError: it cannot be written.
        """
        values = {
            "version": _VERSION,
            "options": asdict(self.options),
            "config": self.config.to_stored(),
            "data": self.data.to_json(),
            "space_name": self.space_name,
            "initial_points": self.initial_points,
            "brackets": self.brackets,
            "keras_tuner": self.keras_tuner,
            "space": self.space,
        }
        path, data = self.folder / SEARCH_NAME, (json.dumps(values, indent=1) + "\n").encode()
        try:
            if not path.exists() or path.read_bytes() != data:
                write_atomically(path, data)
        except OSError as error:
            raise InputError(f"--search_dir={self.folder}: cannot be written: {error.strerror}") from None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Opens a search.

        Raises:
            InputError: there is none, or its file is damaged.
        """
        path = folder / SEARCH_NAME
        try:
            values: dict[str, Any] = json.loads(path.read_bytes())
            if values["version"] != _VERSION:
                raise InputError(f"version {values['version']}")
            return cls(
                folder,
                SearchOptions(**values["options"]),
                TrainConfig.from_json(values["config"]),
                DataFacts.from_json(values["data"]),
                values["space"],
                values["space_name"],
                values["initial_points"],
                values["brackets"],
                values["keras_tuner"],
            )
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"--search_dir={folder}: no {SEARCH_NAME} there, so no search; begin one with\n"
                f"  python -m trainer.tune --data=DATA --search_dir={folder}"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            why = str(error) if isinstance(error, InputError) else repr(error)
            raise InputError(
                f"{path}: is damaged or of another version ({why}); begin in another --search_dir"
            ) from None

    def continued(self, asked: Self) -> Self:
        """Returns this search with the changes that a later start may make.

        Args:
            asked: the search that the flags of this start describe.

        Raises:
            InputError: the flags describe another search.
        """
        mine, theirs = asdict(asked.options), asdict(self.options)
        changed = [
            f"--{name}={theirs[name]} there, --{name}={mine[name]} now"
            for name in IDENTITY
            if mine[name] != theirs[name] and not (name == "initial_random" and not mine[name])
        ]
        there, now = self.config.to_json(), asked.config.to_json()
        for name, chosen in (("precision", "auto"), ("cache", "auto"), ("threads_per_process", 0)):
            if now[name] == chosen:  # the first start replaced it by a choice
                now[name] = there[name]
        changed += [
            f"--{name}={there[name]} there, --{name}={now[name]} now"
            for name in now
            if name not in _OF_A_MACHINE | {"run_dir", "data"} and now[name] != there[name]
        ]
        if self.data != asked.data:
            changed.append(f"--data: {self.data.name} there, {asked.data.name} now, or converted otherwise")
        if self.space != asked.space:
            changed.append(f"--space={self.space_name} there, --space={asked.space_name} now")
        if changed:
            raise InputError(
                f"--search_dir={self.folder}: holds another search ({'; '.join(changed)}); choose another "
                f"--search_dir, or give the same flags to go on"
            )
        free = _OF_A_MACHINE | {"data"}
        config = self.config.changed(
            **{name: value for name, value in asked.config.values().items() if name in free}
        )
        return replace(
            self, options=replace(asked.options, initial_random=self.options.initial_random), config=config
        )


def of_trials(config: TrainConfig) -> TrainConfig:
    """Returns the part that all trials share of the configuration that the flags describe."""
    data = str(Path.cwd() / config.data)  # workers may be started in another folder
    return config.changed(data=data, run_dir="", seed=0, max_minutes=0.0, tuned=())


def refuse_early(folder: Path, options: SearchOptions, config: TrainConfig, manifest: Manifest) -> None:
    """Checks all that can be checked without TensorFlow, before anything starts.

    Raises:
        InputError: options or data cannot be used, or the folder holds another search, or something else.
    """
    for split in ("train", "val"):
        manifest.split(split)
    if config.strategy == "multi_worker":
        raise InputError(
            "--strategy=multi_worker: a trial is one process; use one_device, or mirrored with --workers=1"
        )
    if options.oracle == "hyperband" and config.schedule == "cosine":
        raise InputError(
            "--schedule=cosine: ends with a trial's last epoch, so a trial that --oracle=hyperband promotes "
            "cannot go on with it; use --schedule=constant, or another oracle"
        )
    if (folder / SEARCH_NAME).exists():
        there = Search.load(folder)
        there.continued(
            replace(there, options=options, config=of_trials(config), data=DataFacts.of(manifest))
        )
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not found <= {"journal", "tensorboard"}:  # a kill during the first start leaves these
        raise InputError(
            f"--search_dir={folder}: is not empty and holds no search; choose a new or empty folder"
        )
