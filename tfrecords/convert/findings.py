"""What is seen of the images while shards are written, for the closing summary."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tfrecords.images.decode import Decoded
from tfrecords.images.wide import FULL, Extent, limits
from tfrecords.manifest import Manifest
from tfrecords.sources.listing import Listing

_SHOWN: Final = 10  # images of one colour that are named
_EVERY: Final = 32  # one in so many JPEG files in colour is looked at: all would cost a third of the time
_FEW_LEVELS: Final = 128  # of 256; with fewer the user is told what to do


@dataclass
class Findings:
    """What was seen of images.

    Attributes:
        flat: numbers of the sources whose pixels are all of one colour.
        extent: the stored values of grayscale of more than 8 bits; None: there is none.
        coarse: of 16 bits in more than one channel, as far as the high bytes tell.
        clipped: images with values beyond the value range.
        in_colour: images that are stored in colour.
        looked_at: of these, those where it was looked whether colour is seen.
        coloured: of these, those where it is.
    """

    flat: list[int] = field(default_factory=list)
    extent: Extent | None = None
    coarse: Extent | None = None
    clipped: int = 0
    in_colour: int = 0
    looked_at: int = 0
    coloured: int = 0

    @property
    def detect_colour(self) -> bool:
        """Whether the next image that is stored in colour is to be looked at."""
        return self.in_colour % _EVERY == 0

    def add(self, source: int, image: Decoded, value_range: str) -> None:
        """Takes in what was seen of one image."""
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
        """Returns what `dataclasses.asdict` made."""
        extents = {name: values[name] and Extent(**values[name]) for name in ("extent", "coarse")}
        return cls(**(values | extents))

    @classmethod
    def of_all(cls, parts: Iterable[Self]) -> Self:
        """Returns what was seen in several shards."""
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
    """Returns what the user must know of the images, a line each.

    Args:
        parts: what was seen in each shard.
        listing: of all sources; with a key it names them by their positions.
        manifest: of the data set.
    """
    found = Findings.of_all(parts)
    notes = [*_on_flat(found.flat, listing), *_on_values(found, manifest.value_range)]
    if manifest.image_shape[-1] == 1 and found.coloured:
        images = sum(split.images for split in manifest.splits.values())
        notes.append(
            f"{found.in_colour:,} of {images:,} images are stored in colour, and {found.coloured:,} of the "
            f"{found.looked_at:,} looked at show colour: --channels=1 keeps their brightness alone, "
            f"--channels=3 keeps the colour"
        )
    return tuple(notes)


def _on_flat(flat: Sequence[int], listing: Listing) -> list[str]:
    if not flat:
        return []
    names = ", ".join(listing.sources[number].shown for number in flat[:_SHOWN])
    more = f" and {len(flat) - _SHOWN:,} more" if len(flat) > _SHOWN else ""
    what = "image is" if len(flat) == 1 else "images are"
    return [f"{len(flat):,} {what} of one colour, and in the data set: {names}{more}"]


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
            f"--value_range={value_range}: changes nothing, for no image is in grayscale of more than 8 bits"
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
