"""Facts about the images for the summary and for sources.csv, collected while shards are written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tfrecords.convert.source_facts import facts_of
from tfrecords.images.decode import Decoded
from tfrecords.images.wide import FULL, Extent, limits
from tfrecords.manifest import Manifest
from tfrecords.sources.listing import Listing

_SHOWN: Final = 10  # images of one colour that are named
_EVERY: Final = 32  # every 32nd colour JPEG is checked: checking all would cost a third of the time
_FEW_LEVELS: Final = 128  # of 256; below that, the summary tells what to do


@dataclass
class Findings:
    """Facts about images.

    Attributes:
        flat: numbers of the sources whose pixels all have one colour.
        extent: the stored values of grayscale images of more than 8 bits; None: there are none.
        coarse: the values of images with 16 bits in several channels, by their high bytes.
        clipped: how many images have values beyond the value range.
        in_colour: how many images are stored in colour.
        looked_at: how many of these were checked for visible colour.
        coloured: how many of the checked ones show colour.
        facts: number of each source, then its `source_facts.facts_of`; a result of an older version has none.
    """

    flat: list[int] = field(default_factory=list)
    extent: Extent | None = None
    coarse: Extent | None = None
    clipped: int = 0
    in_colour: int = 0
    looked_at: int = 0
    coloured: int = 0
    facts: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def detect_colour(self) -> bool:
        """Whether the next image that is stored in colour is to be checked for visible colour."""
        return self.in_colour % _EVERY == 0

    def add(self, source: int, image: Decoded, value_range: str, data: bytes) -> None:
        """Adds the facts about one image and its file."""
        self.facts.append((source, *facts_of(data, image.size)))
        if image.is_flat:
            self.flat.append(source)
        if image.extent:
            self.extent = image.extent | self.extent
            low, high = limits(value_range) or (0, image.extent.white)
            self.clipped += image.extent.low < low or image.extent.high > high
        if image.coarse:
            self.coarse = image.coarse | self.coarse
        self.in_colour += image.stored_in_colour
        self.looked_at += image.shows_colour is not None
        self.coloured += bool(image.shows_colour)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Returns the object of the values that `dataclasses.asdict` gave."""
        values = dict(values)
        facts = values.pop("facts", [])
        extents = {name: values[name] and Extent(**values[name]) for name in ("extent", "coarse")}
        return cls(**(values | extents), facts=[tuple(each) for each in facts])

    @classmethod
    def of_all(cls, parts: Iterable[Self]) -> Self:
        """Returns the facts about the images of several shards."""
        total = cls()
        for part in parts:
            total.flat += part.flat
            total.extent = part.extent | total.extent if part.extent else total.extent
            total.coarse = part.coarse | total.coarse if part.coarse else total.coarse
            total.clipped += part.clipped
            total.in_colour += part.in_colour
            total.looked_at += part.looked_at
            total.coloured += part.coloured
        total.flat.sort()
        return total


def notes_on(parts: Iterable[Findings], listing: Listing, manifest: Manifest) -> tuple[str, ...]:
    """Returns sentences that the user must know about the images.

    Args:
        parts: the facts of each shard.
        listing: all sources; with a key, it names them by their positions.
        manifest: of the data set.
    """
    found = Findings.of_all(parts)
    notes = [*_on_flat(found.flat, listing), *_on_values(found, manifest.value_range)]
    if manifest.image_shape[-1] == 1 and found.coloured:
        images = sum(split.images for split in manifest.splits.values())
        notes.append(
            f"{found.in_colour:,} of {images:,} images are stored in colour, and {found.coloured:,} of the "
            f"{found.looked_at:,} checked ones show colour: --channels=1 keeps only their brightness, "
            f"--channels=3 keeps the colour"
        )
    return tuple(notes)


def _on_flat(flat: Sequence[int], listing: Listing) -> list[str]:
    if not flat:
        return []
    names = ", ".join(listing.sources[number].shown for number in flat[:_SHOWN])
    more = f" and {len(flat) - _SHOWN:,} more" if len(flat) > _SHOWN else ""
    what = "image has" if len(flat) == 1 else "images have"
    return [f"{len(flat):,} {what} a single colour and were converted all the same: {names}{more}"]


def _on_values(found: Findings, value_range: str) -> list[str]:
    notes = []
    if (seen := found.extent) is not None:
        note = (
            f"grayscale of more than 8 bits ({_images(seen.images)}): values from {seen.low} to {seen.high} "
            f"of {seen.white}"
        )
        if value_range != FULL:
            note += f", scaled by --value_range={value_range}"
            if found.clipped:
                note += f"; values beyond it, in {_images(found.clipped)}, are clipped"
        elif seen.levels < _FEW_LEVELS:
            spread = seen.in_use if 2 * seen.high < seen.white else f"{seen.low}:{seen.high}"
            note += (
                f", which leaves {seen.levels} of 256 grey levels: --value_range={spread} spreads them (with "
                f"--overwrite)"
            )
        notes.append(note)
    elif value_range != FULL:
        notes.append(
            f"--value_range={value_range}: has no effect, because no image is grayscale of more than 8 bits"
        )
    if (seen := found.coarse) is not None:
        levels = (seen.high >> 8) - (seen.low >> 8) + 1
        if levels < _FEW_LEVELS:
            notes.append(
                f"more than 8 bits in more than one channel ({_images(seen.images)}): the high bytes alone "
                f"are read, {levels} of 256 levels; scale them to 8 bits"
            )
    return notes


def _images(count: int) -> str:
    return f"{count:,} image{'s'[: count != 1]}"
