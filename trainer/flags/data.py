"""Data.

The flags that say which images to train on, and where they are.
"""

from pathlib import Path
from typing import Any

from absl import flags

from data_pipeline.fetch import resolve_data
from tfrecords.command import define_path
from tfrecords.files.urls import is_remote, without_secrets
from trainer.config import REMOTES, TrainConfig

_DATA = define_path(
    "data",
    None,
    "The folder that tfrecords.convert made, or its URL (s3://, gs://, https://; see --remote). Default: "
    "drawn demo data, which are made once and kept.",
)
_REMOTE = flags.DEFINE_enum(
    "remote",
    TrainConfig.remote,
    REMOTES,
    "How data at a URL are read. fetch: the shards are copied to --cache_dir once and checked by SHA-256 "
    "(needs the extra `remote`). direct: the shards stay where they are and are streamed from there (needs "
    "the extra `tfio`, with TensorFlow 2.16).",
)
_CACHE_DIR = define_path(
    "cache_dir",
    "",
    "The folder of fetched data and of the decoded files of --cache=disk. It may be removed at any time. A "
    "decoded file whose data are gone is removed when another one is made. Default: shardlight in the user's "
    "cache folder.",
)
_CACHE_LIMIT_MB = flags.DEFINE_integer(
    "cache_limit_mb",
    0,
    "The space that all fetched data sets may take together, in MB. The least recently used ones make room. "
    "0: as much as the disk has.",
    lower_bound=0,
)
_POSITIVE = flags.DEFINE_string(
    "positive",
    TrainConfig.positive,
    "Of two classes the one that is looked for: sensitivity is the share of its records that are found, and "
    "the threshold is chosen for it. It changes no weights; if it is given later, the same command chooses "
    "the threshold anew. Default: the class that tfrecords.convert --positive named, else the class whose "
    "name does not say normal.",
)
_FOLD = flags.DEFINE_string(
    "fold",
    TrainConfig.fold,
    "I/K, as 1/5: divide train and val of the data into K folds by group, hold out fold I (counted from 1) "
    "as the val split, and train on all others. The folds are the same for every --seed; test stays as it "
    "is. The fold's data set is written once into --cache_dir. python -m trainer.pool makes one report of "
    "all K runs.",
)


def values() -> dict[str, Any]:
    """Returns what these flags say, but for --data, which may be the demo's."""
    return {
        "data_url": without_secrets(_DATA.value) if is_url() else "",
        "remote": _REMOTE.value,
        "cache_dir": _CACHE_DIR.value,
        "positive": _POSITIVE.value,
        "fold": _FOLD.value,
    }


def folder(*, check: bool = False) -> Path | None:
    """Returns the folder of --data, fetched if it is a URL; None for the demo data.

    Args:
        check: whether to hash again what was fetched earlier.

    Raises:
        InputError: the data cannot be fetched.
    """
    if not _DATA.value:
        return None
    return resolve_data(
        _DATA.value,
        ("train", "val", "test") if _REMOTE.value == "fetch" else (),
        cache_dir=_CACHE_DIR.value,
        limit=_CACHE_LIMIT_MB.value << 20,
        check=check,
    )


def is_url() -> bool:
    """Returns whether --data is a URL."""
    return bool(_DATA.value) and is_remote(_DATA.value)
