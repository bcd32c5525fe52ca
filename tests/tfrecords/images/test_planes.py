"""Whether colour is seen in an image."""

import numpy as np
import pytest
from image_files import saved
from PIL import Image

from tfrecords.images.decode import decode_fingerprinted

GREY = {"height": 20, "width": 20, "channels": 1}
NOISE = np.random.default_rng(0).integers(0, 256, (60, 50), dtype=np.uint8)
FILM = Image.fromarray(NOISE)
RED = Image.new("RGB", (60, 50), (200, 0, 0))
MARKED = FILM.convert("RGB")
MARKED.paste((255, 0, 0), (0, 0, 12, 12))  # one pixel in twenty


def seen(data, **options):
    found = decode_fingerprinted(data, **(GREY | options))
    return found.stored_in_colour, found.shows_colour


@pytest.mark.parametrize(
    ("image", "stored", "shows"),
    [
        (FILM, False, None),
        (FILM.convert("LA"), False, None),
        (FILM.convert("RGB"), True, False),
        (FILM.convert("RGBA"), True, False),
        (RED, True, True),
        (RED.convert("P"), True, True),
        (FILM.convert("P"), True, False),
        (MARKED, True, True),
    ],
)
def test_colour_is_seen_in_what_is_decoded(image, stored, shows):
    assert seen(saved(image)) == (stored, shows)
    assert seen(saved(image), channels=3) == (stored, None)


def test_of_a_jpeg_colour_is_looked_for_only_if_asked():
    for image, stored, shows in (
        (FILM, False, None),
        (FILM.convert("RGB"), True, False),
        (MARKED, True, True),
    ):
        data = saved(image, "JPEG", quality=60)
        assert seen(data) == (stored, None)
        assert seen(data, detect_colour=True) == (stored, shows)
    assert seen(saved(RED.convert("CMYK"), "JPEG")) == (True, True)
