"""Checks that every byte of a converted data set is what was written, and names what is not.

    python -m tfrecords.verify --data=data/chest_xray

Exit code 2 if anything is wrong.
"""

import sys
from pathlib import Path

from absl import flags
from tqdm import tqdm

from tfrecords.command import run
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.verification import verify

_DATA = flags.DEFINE_string("data", None, "Folder with manifest.json.", required=True)
_QUICK = flags.DEFINE_bool("quick", False, "Stop after sizes and hashes; do not read the records.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0: one for each core.", lower_bound=0)

_SHOWN = 20


def main(_: list[str]) -> None:
    """Parses the flags and verifies."""
    data = Path(_DATA.value)
    manifest = Manifest.load(data, check_shards=False)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    size = sum(shard.bytes for shard in shards)
    with tqdm(
        total=size, unit="B", unit_scale=True, desc="verifying", disable=not sys.stderr.isatty()
    ) as bar:
        problems = verify(data, quick=_QUICK.value, workers=_WORKERS.value, progress=bar.update)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError(
            f"{data}: {len(problems)} problems:\n{shown}{more}\n"
            f"Restore these files, or convert again with --overwrite."
        )
    records = sum(shard.records for shard in shards)
    depth = "sizes and hashes" if _QUICK.value else "sizes, hashes and every record"
    print(f"{data}: all is well: {len(shards)} shards, {records:,} records, {size / 1e6:,.1f} MB; {depth}")


if __name__ == "__main__":
    run(main)
