"""Proof: every damage to a data set's files is found and named.

    python benchmarks/damage.py --data=DATA --flips=500

Works on a copy. One bit after the other, drawn from the seed, is flipped in place, the quick and the full
verification are run, and the bit is flipped back: a third of them in the manifest and sources.csv,
the others in the shards, each shard in turn. Then one whole-file damage after the other. A damage
counts as found if the verification names its file. Exit code 2 if one was not found, or if the copy
is not sound before or after.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import flags
from tqdm import tqdm

from tfrecords.command import run
from tfrecords.errors import InputError
from tfrecords.manifest import MANIFEST_NAME, SOURCES_NAME, Manifest
from tfrecords.records import read_records
from tfrecords.verification.data_set import verify

_DATA = flags.DEFINE_string("data", None, "Folder with manifest.json; stays as it is.", required=True)
_FLIPS = flags.DEFINE_integer("flips", 500, "Single-bit flips.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the flips.")
_WORKERS = flags.DEFINE_integer("workers", 1, "Processes of each verification; 1: this one.", lower_bound=1)

_FRAME = 16  # bytes of a record's frame besides its data


def main(_: list[str]) -> None:
    """Damages a copy and prints how much was found."""
    source = Path(_DATA.value)
    manifest = Manifest.load(source)
    shards = [shard.name for split in manifest.splits.values() for shard in split.shards]
    with tempfile.TemporaryDirectory() as folder:
        data = shutil.copytree(source, Path(folder) / "data")
        _refuse_damage(data, "before")
        started = time.monotonic()
        found, lost = _flips(data, shards)
        flip_seconds = time.monotonic() - started
        rows = _structural(data, shards)
        _refuse_damage(data, "after")
    size = sum((source / name).stat().st_size for name in shards)
    print(
        f"hardware: {os.cpu_count()} cores, {_WORKERS.value} used; {len(shards)} shards, "
        f"{size / 1e6:,.1f} MB, seed {_SEED.value}\n"
        f"{_FLIPS.value} flips in {flip_seconds:.0f} s, found and named by the quick verification: "
        f"{found[True]}, by the full one: {found[False]}\n\n"
        "| damage | quick | full | what the full verification says first |\n|-|-|-|-|"
    )
    for name, quick, full, said in rows:
        print(f"| {name} | {'found' if quick else 'MISSED'} | {'found' if full else 'MISSED'} | {said} |")
        lost += [name] * (not (quick and full))
    if lost:
        raise InputError(f"{len(lost)} damages were not found: {', '.join(lost)}")


def _verify(data: Path, *, quick: bool) -> list[str]:
    """Returns the problems, a refusal of the manifest among them."""
    try:
        return verify(data, quick=quick, workers=_WORKERS.value)
    except InputError as error:
        return [str(error)]


def _refuse_damage(data: Path, when: str) -> None:
    if problems := _verify(data, quick=False):
        raise InputError(f"{data}: not sound {when}: {problems[0]}")


def _flips(data: Path, shards: list[str]) -> tuple[dict[bool, int], list[str]]:
    """Returns how many flips the quick (True) and the full verification found, and what one missed."""
    chance = random.Random(_SEED.value)
    found, lost = {True: 0, False: 0}, []
    for number in tqdm(range(_FLIPS.value), desc="flips", disable=not sys.stderr.isatty()):
        others = (MANIFEST_NAME, SOURCES_NAME)
        name = others[number // 3 % 2] if number % 3 == 0 else shards[number % len(shards)]
        bit = chance.randrange(8 * (data / name).stat().st_size)
        _flip(data / name, bit)
        for quick in found:
            if any(str(data / name) in problem for problem in _verify(data, quick=quick)):
                found[quick] += 1
            else:
                lost.append(f"bit {bit} of {name}")
        _flip(data / name, bit)
    return found, lost


def _flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


Damage = tuple[str, str, Callable[[], object]]  # what, the file that must be named, how


def _structural(data: Path, shards: list[str]) -> list[tuple[str, bool, bool, str]]:
    """Returns (damage, found by quick, found by full, first problem) of each whole-file damage."""
    one, other = data / shards[0], data / shards[-1]
    frame = next(len(record) + _FRAME for record in read_records(one))
    manifest, sources = data / MANIFEST_NAME, data / SOURCES_NAME
    foreign = one.read_bytes()[frame:] + one.read_bytes()[:frame]  # the same records, another order
    damages: list[Damage] = [
        ("cut in mid-record", one.name, lambda: os.truncate(one, one.stat().st_size - frame // 2)),
        ("cut at a record boundary", one.name, lambda: os.truncate(one, one.stat().st_size - frame)),
        ("empty", one.name, lambda: os.truncate(one, 0)),
        ("missing", one.name, one.unlink),
        ("doubled under a shard's name", "-of-99999", lambda: _copy(one, "of-99999")),
        ("doubled under any name", "copy.bin", lambda: shutil.copy(one, data / "copy.bin")),
        ("two swapped", one.name, lambda: _swap(one, other)),
        ("its records in another order, same size", one.name, lambda: one.write_bytes(foreign)),
        ("a record appended twice", one.name, lambda: _append(one, one.read_bytes()[:frame])),
        ("sources.csv missing", SOURCES_NAME, sources.unlink),
        ("sources.csv edited", SOURCES_NAME, lambda: _edit(sources, b",train,", b",val,")),
        ("manifest missing", data.name, manifest.unlink),
        ("manifest edited", MANIFEST_NAME, lambda: _edit(manifest, b'"seed": ', b'"seed": 1')),
    ]
    rows = []
    for what, name, harm in damages:
        with _restored(data, one, other, sources, manifest):
            harm()
            said = [_verify(data, quick=quick) for quick in (True, False)]
        quick, full = (any(name in problem for problem in problems) for problems in said)
        first = (
            said[1][0].splitlines()[0].replace(f"{data}/", "").replace(str(data), "the folder")
            if said[1]
            else "-"
        )
        rows.append((what, quick, full, first))
    return rows


@contextmanager
def _restored(data: Path, *paths: Path) -> Iterator[None]:
    before, content = set(data.iterdir()), {path: path.read_bytes() for path in paths}
    yield
    for path in set(data.iterdir()) - before:
        path.unlink()
    for path, whole in content.items():
        path.write_bytes(whole)


def _copy(path: Path, end: str) -> None:
    shutil.copy(path, path.with_name(path.name.rpartition("of-")[0] + end))


def _swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _edit(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new, 1))


if __name__ == "__main__":
    run(main)
