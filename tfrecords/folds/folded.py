"""The data set of a fold: an ordinary data set, written once beside the user's other cached data.

Its val split is the fold that is held out, originals only. Its train split is all other images of train and
val of the conversion. Records that the conversion has are taken over byte by byte; nothing is converted
again. Images of the conversion's val split have no copies there, so their copies are made here, from the
stored originals by the same draws (id, copy, seed) as in the conversion. So each train image has the copies
that the manifest announces. All other splits are taken over file by file.

What the manifest says of duplicates is what was found in the conversion, with its splits.
"""

import csv
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from tfrecords.augment import Augmentation, apply_transform, draw_transform
from tfrecords.encoding import encode_image
from tfrecords.errors import InputError
from tfrecords.example import Record, decode, encode
from tfrecords.files.atomic import file_sha256, publish_folder
from tfrecords.files.cache import user_cache
from tfrecords.files.locks import file_lock
from tfrecords.folds.held_out import Fold, folds_of
from tfrecords.interop.companions import write_companions
from tfrecords.manifest import SOURCES_NAME, Manifest, Shard, Split
from tfrecords.quality import largest_groups, shard_shares
from tfrecords.records import FOOTER_SIZE, HEADER_SIZE, frame, read_records
from tfrecords.stored_image import pixels

PARENTS: Final = ("train", "val")  # the splits whose images are divided


@dataclass(frozen=True)
class _Image:
    """An image of train or val of the conversion, and where its records are.

    Attributes:
        source: its number in sources.csv.
        id: of its records.
        label: index of its class.
        group: hash of its group.
        places: of each record by the number of its copy: shard, offset and size of its frame in bytes.
    """

    source: int
    id: str
    label: int
    group: str
    places: dict[int, tuple[Path, int, int]] = field(default_factory=dict)


def folded(
    directory: Path,
    manifest: Manifest,
    fold: Fold,
    *,
    cache_dir: str = "",
    log: Callable[[str], None] = lambda _: None,
) -> tuple[Path, Manifest]:
    """Returns the folder and the manifest of a fold's data set; writes it first if it is not there.

    One process writes it while others wait. It may be removed whenever no process reads it.

    Args:
        directory: of the conversion.
        manifest: of the conversion.
        fold: the fold that is held out.
        cache_dir: the data set is in its folder "folds"; "": the user's cache folder.
        log: called with a line before it is written.

    Raises:
        InputError: the conversion lacks val, a class has too few groups, a shard is missing or damaged, or
            the data set cannot be written.
    """
    for split in PARENTS:
        manifest.split(split)
    home = ((Path(cache_dir) if cache_dir else user_cache()) / "folds").absolute()
    name = f"{manifest.name}-{manifest.sha256[:16]}-fold-{fold.number}-of-{fold.folds}"
    folder, temporary = home / name, home / f".{name}.tmp"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)  # images of patients: for this user only
        with file_lock(home / f"{name}.lock"):
            with suppress(InputError):  # not there, or incomplete: it is written anew
                there = Manifest.load(folder)
                if there.plan == fold.plan(manifest.plan):
                    return folder, there
            manifest.check_shards(directory)
            log(f"fold {fold}: its data set is written to {folder}")
            for old in (temporary, folder):
                shutil.rmtree(old, ignore_errors=True)
            temporary.mkdir()
            try:
                _write(directory, manifest, fold, temporary)
                publish_folder(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return folder, Manifest.load(folder)
    except OSError as error:
        raise InputError(
            f"{error.filename or home}: the data of --fold={fold} cannot be written: {error.strerror}; make "
            f"room, or name another folder with --cache_dir"
        ) from None


def _write(directory: Path, manifest: Manifest, fold: Fold, out: Path) -> None:
    images = _images(directory, manifest)
    labels = np.array([image.label for image in images], np.int64)
    held = folds_of(labels, [image.group for image in images], fold.folds, manifest) == fold.number
    parts = {
        "train": [images[at] for at in np.flatnonzero(~held)],
        "val": [images[at] for at in np.flatnonzero(held)],
    }
    splits: dict[str, Split] = {}
    shares = dict(manifest.split_quality.class_shares_of_shards)
    for name, described in manifest.splits.items():
        if name not in parts:
            for shard in described.shards:
                shutil.copyfile(directory / shard.name, out / shard.name)
                if file_sha256(out / shard.name) != shard.sha256:
                    raise InputError(f"{directory / shard.name}: is damaged; restore it or convert again")
            splits[name] = described
            continue
        own = parts[name]
        count = min(len(own), max(1, round(len(described.shards) * len(own) / described.images)))
        chunks = _chunks(own, count, manifest.seed)
        shards = []
        for number, chunk in enumerate(chunks):
            path = out / f"{manifest.name}-{name}.tfrecord-{number:05d}-of-{count:05d}"
            shards.append(_write_shard(path, name, chunk, manifest))
        variants = [1 + manifest.copies_of(name, label) for label in range(len(manifest.class_names))]
        per_class = np.bincount([image.label for image in own], minlength=len(variants)) * variants
        splits[name] = Split(
            shards=tuple(shards),
            records=int(per_class.sum()),
            images=len(own),
            groups=len({image.group for image in own}),
            records_per_class=tuple(per_class.tolist()),
        )
        shares[name] = shard_shares(
            [[image.label for image in chunk] for chunk in chunks], len(manifest.class_names)
        )
    of_source = {image.source: name for name, own in parts.items() for image in own}
    largest = {
        **manifest.split_quality.images_in_largest_group,
        **largest_groups([of_source[image.source] for image in images], [image.group for image in images]),
    }
    quality = replace(
        manifest.split_quality,
        images_in_largest_group=largest,
        class_shares_of_shards=shares,
        duplicates_sha256="",
    )
    made = replace(
        manifest.in_current_schema(),
        splits=splits,
        split_quality=quality,
        plan=fold.plan(manifest.plan),
        sources_sha256=_write_sources(directory, manifest, of_source, out),
    )
    write_companions(out, made, index=False)
    made.save(out)


def _images(directory: Path, manifest: Manifest) -> list[_Image]:
    """Returns the images of train and val, sorted by source; every record's checksums are checked."""
    found: dict[int, _Image] = {}
    for split in PARENTS:
        for shard in manifest.split(split).shards:
            path, offset = directory / shard.name, 0
            for data in read_records(path):
                record, size = decode(data), HEADER_SIZE + len(data) + FOOTER_SIZE
                image = found.setdefault(
                    record.source,
                    _Image(record.source, record.id.decode(), record.label, record.group.decode()),
                )
                image.places[record.copy] = (path, offset, size)
                offset += size
    expected = sum(manifest.split(split).images for split in PARENTS)
    if len(found) != expected or any(0 not in image.places for image in found.values()):
        raise InputError(
            f"{directory}: train and val have {len(found)} images, the manifest says {expected}; check it "
            f"with python -m tfrecords.verify --data={directory}"
        )
    return [found[source] for source in sorted(found)]


def _chunks(images: Sequence[_Image], count: int, seed: int) -> list[list[_Image]]:
    """Returns the images of each shard, in the seeded order in which a conversion has them."""
    keys = _keys(images, seed)
    ordered = [images[at] for at in np.argsort(keys).tolist()]
    bounds = np.linspace(0, len(ordered), count + 1).round().astype(int).tolist()
    return [ordered[start:stop] for start, stop in pairwise(bounds)]


def _keys(images: Sequence[_Image], seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Returns for each image a number that orders it, uint64 [N]; as in `convert.shards`."""
    digests = (
        hashlib.blake2b(f"{seed}/order/{image.id}".encode(), digest_size=8).digest() for image in images
    )
    return np.frombuffer(b"".join(digests), "<u8")


def _write_shard(path: Path, split: str, images: Sequence[_Image], manifest: Manifest) -> Shard:
    """Writes a shard; in each round every image occurs once, as the original or as a copy."""
    digest, records, size = hashlib.sha256(), 0, 0
    with path.open("wb") as file:
        for image, copy in _order(images, split, manifest):
            data = _frame(image, copy, manifest)
            digest.update(data)
            file.write(data)
            records += 1
            size += len(data)
    return Shard(path.name, records, size, digest.hexdigest())


def _order(images: Sequence[_Image], split: str, manifest: Manifest) -> Iterator[tuple[_Image, int]]:
    """Yields image and copy of each record, in the rounds of a conversion's shards."""
    own = [1 + manifest.copies_of(split, image.label) for image in images]
    variants = max(own)
    first = (_keys(images, manifest.seed) % np.uint64(variants)).tolist()
    for turn in range(variants):
        for position, image in enumerate(images):
            copy, late = divmod((turn + first[position]) % variants * own[position], variants)
            if late < own[position]:
                yield image, copy


def _frame(image: _Image, copy: int, manifest: Manifest) -> bytes:
    """Returns the framed record of one variant of an image."""
    if copy in image.places:
        return _read(*image.places[copy])
    path, offset, size = image.places[0]
    original = decode(_read(path, offset, size)[HEADER_SIZE:-FOOTER_SIZE])
    return frame(encode(made_copy(original, copy, manifest)))


def made_copy(original: Record, copy: int, manifest: Manifest) -> Record:
    """Returns an augmented copy of a stored original, as the conversion draws it.

    Of a "raw" or "png" record it is, to the byte, the copy that the conversion would have made. The pixels
    of a "jpeg" record have been compressed once before.
    """
    augmentation = Augmentation(**manifest.augmentation)  # type: ignore[arg-type]  # as to_json has it
    height, width, _ = manifest.image_shape
    transform = draw_transform(
        augmentation,
        seed=manifest.seed,
        record_id=original.id.decode(),
        copy=copy,
        height=height,
        width=width,
    )
    changed = apply_transform(pixels(original, manifest), transform, augmentation.fill)
    return replace(original, image=encode_image(changed, manifest.encoding), copy=copy)


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _write_sources(directory: Path, manifest: Manifest, of_source: dict[int, str], out: Path) -> str:
    """Writes sources.csv with the splits of the fold; returns its SHA-256.

    Data fetched from a URL have no such table; then none is written.
    """
    path = directory / SOURCES_NAME
    if not path.exists():
        return manifest.sources_sha256
    if file_sha256(path) != manifest.sources_sha256:
        raise InputError(f"{path}: its SHA-256 is not the manifest's; restore it or convert again")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        head = next(reader)
        table.writerow(head)
        source, split = head.index("source"), head.index("split")
        for row in reader:
            row[split] = of_source.get(int(row[source]), row[split])
            table.writerow(row)
    data = text.getvalue().encode()
    (out / SOURCES_NAME).write_bytes(data)
    return hashlib.sha256(data).hexdigest()
