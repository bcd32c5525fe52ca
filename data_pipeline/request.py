"""The arguments of one call of `make_dataset`, from which every tf.data chain is built."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.copies import FIELDS as CHOICE_FIELDS
from data_pipeline.copies import resolve_copies
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.sampling.shares import fields_for
from tfrecords.manifest import Manifest

BATCH = ("image", "label", "weight")

FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Request:
    """The arguments of `make_dataset`; `steps` is the number of steps in an epoch."""

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
        """Records of one replica in a step."""
        return self.worker.replica_batch_size(self.options.global_batch_size)

    @property
    def copies(self) -> str:
        """The variants of an image that an epoch shows; see `PipelineOptions`."""
        return resolve_copies(self.manifest, self.split, self.options.copies) if self.training else "all"

    @property
    def keyed(self) -> bool:
        """Whether each record has the key from which the train step draws, for example its augmentation."""
        return self.training and self.options.keyed

    @property
    def sampled(self) -> bool:
        """Whether an epoch shows some records more often than others."""
        return self.training and self.options.sampling != "natural"

    @property
    def in_place(self) -> bool:
        """Whether this process itself reads a stream: from local shards, and all of their records."""
        elsewhere = self.options.shards_at or (self.training and self.options.data_service)
        return not elsewhere and self.copies == "all"

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields from which the choice of variants, the keys and the shares follow."""
        names = (CHOICE_FIELDS if self.copies != "all" else ()) + (("id", "copy") if self.keyed else ())
        names += fields_for(self.options.sampling) if self.sampled else ()
        return tuple(dict.fromkeys(names))
