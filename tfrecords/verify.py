"""Checks every byte of a converted data set, and names the file and the record of each problem.

    python -m tfrecords.verify --data=data/chest_xray

The exit code is 0 if there are no problems, and 2 if there are any.
"""

import sys
from pathlib import Path

from absl import flags
from tqdm import tqdm

from tfrecords.command import define_path, run
from tfrecords.manifest import Manifest
from tfrecords.verification.data_set import require_sound

_DATA = define_path("data", None, "The folder of the data set, with its manifest.json.", required=True)
_QUICK = flags.DEFINE_bool(
    "quick",
    False,
    "Check only sizes and hashes of the files. Without this flag every record is decoded, too.",
)
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "How many processes check shards. 0: one for each core.", lower_bound=0
)


def main(_: list[str]) -> None:
    """Parses the flags and verifies."""
    data = Path(_DATA.value)
    manifest = Manifest.load(data, check_shards=False)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    size = sum(shard.bytes for shard in shards)
    with tqdm(
        total=size, unit="B", unit_scale=True, desc="verifying", disable=not sys.stderr.isatty()
    ) as bar:
        require_sound(data, quick=_QUICK.value, workers=_WORKERS.value, progress=bar.update)
    records = sum(shard.records for shard in shards)
    depth = "sizes and hashes checked" if _QUICK.value else "sizes, hashes and every record checked"
    print(f"{data}: no problems: {len(shards)} shards, {records:,} records, {size / 1e6:,.1f} MB; {depth}")


if __name__ == "__main__":
    run(main)
