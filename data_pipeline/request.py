"""What one call of `make_dataset` asks for: every chain of tf.data is built from a request."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.copies import FIELDS as CHOICE_FIELDS
from data_pipeline.copies import resolve_copies
from data_pipeline.options import PipelineOptions, Worker
from tfrecords.manifest import Manifest

BATCH = ("image", "label", "weight")

FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Request:
    """One call of `make_dataset`, its arguments as there; `steps` is the number of steps of an epoch."""

    directory: Path
    manifest: Manifest
    split: str
    options: PipelineOptions
    training: bool
    start_step: int
    steps: int
    worker: Worker
    fields: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Records a step of one replica."""
        return self.worker.replica_batch_size(self.options.global_batch_size)

    @property
    def copies(self) -> str:
        """Which variants of an image are shown."""
        return resolve_copies(self.manifest, self.split, self.options.copies) if self.training else "all"

    @property
    def keyed(self) -> bool:
        """Whether records have the keys of their draws."""
        return self.training and self.options.augment != "none"

    @property
    def in_place(self) -> bool:
        """Whether a stream is read from shards of this machine by this process, all of their records."""
        elsewhere = self.options.shards_at or (self.training and self.options.data_service)
        return not elsewhere and self.copies == "all"

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that choice and keys follow from."""
        names = (CHOICE_FIELDS if self.copies != "all" else ()) + (("id", "copy") if self.keyed else ())
        return tuple(dict.fromkeys(names))
