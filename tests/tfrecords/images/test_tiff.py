"""Which page of a TIFF is the picture."""

import io

import numpy as np
import pytest
from image_files import saved, tiff_pages
from PIL import Image

from tfrecords.images.decode import check_header, decode, decode_fingerprinted
from tfrecords.images.kinds import DecodeError

REDUCED, PAGE, MASK = {254: 1}, {254: 2}, {254: 4}
FULL = (40, 30, 200, {})


def grey(data):
    check_header(io.BytesIO(data))
    found = decode_fingerprinted(data, height=3, width=4, channels=1)
    assert found.size == (30, 40)
    (value,) = np.unique(found.pixels)
    return value


@pytest.mark.parametrize(
    "others",
    [
        [],
        [(40, 30, 9, REDUCED)],  # by its own word
        [(40, 30, 9, {255: 2})],  # by the word of an older standard
        [(40, 30, 9, MASK)],
        [(40, 30, 9, {254: 5})],  # the mask of a thumbnail
        [(20, 15, 9, {})],  # by its size
        [(20, 15, 9, REDUCED), (10, 8, 9, REDUCED), (15, 15, 9, {})],
    ],
)
def test_the_page_that_is_no_thumbnail_and_no_mask(others):
    for place in range(len(others) + 1):
        assert grey(tiff_pages(*others[:place], FULL, *others[place:])) == 200


def test_a_single_page_is_the_picture_whatever_it_says():
    for more in (REDUCED, PAGE, {255: 2}):
        assert grey(tiff_pages((40, 30, 200, more))) == 200


@pytest.mark.parametrize(
    "pages",
    [
        [FULL, FULL],
        [(40, 30, 9, PAGE), (40, 30, 10, PAGE)],
        [FULL, (20, 16, 9, {})],  # a side is more than half
        [(10, 8, 9, REDUCED), FULL, FULL],
    ],
)
def test_several_pictures_are_refused(pages):
    data = tiff_pages(*pages)
    for attempt in (lambda: check_header(io.BytesIO(data)), lambda: grey(data)):
        with pytest.raises(DecodeError) as caught:
            attempt()
        said = "a TIFF file of 2 pictures; save the one that you need as an image of its own"
        assert str(caught.value) == said


def test_pages_of_a_bigtiff_and_of_the_other_byte_order():
    small, full = Image.new("L", (20, 15), 9), Image.new("L", (40, 30), 200)
    for options in ({"big_tiff": True}, {}):
        assert grey(saved(small, "TIFF", save_all=True, append_images=[full], **options)) == 200
    data = saved(full, "TIFF", save_all=True, append_images=[full], big_tiff=True)
    with pytest.raises(DecodeError, match="a TIFF file of 2 pictures"):
        grey(data)


@pytest.mark.parametrize(
    "pages",
    [
        [(40, 30, 9, {50706: 0x01010000})],  # DNG
        [(40, 30, 9, {**REDUCED, 330: 8})],  # a preview, and the sensor's data below it: NEF, ARW
        [(40, 30, 9, {262: 32803})],  # a colour filter array
        [FULL, (400, 300, 9, {259: 34713})],  # Nikon's compression
    ],
)
def test_a_cameras_raw_file_is_called_so(pages):
    """Their first page is a preview of a few pixels, which must not be taken for the picture."""
    data = tiff_pages(*pages)
    for attempt in (
        lambda: check_header(io.BytesIO(data)),
        lambda: decode(data, height=4, width=4, channels=1),
    ):
        with pytest.raises(DecodeError) as caught:
            attempt()
        assert str(caught.value) == "a camera RAW file; develop it to TIFF or PNG"


def test_a_circle_of_pages_ends():
    data = bytearray(tiff_pages(FULL, (20, 15, 9, {})))
    first = bytes(data[4:8])
    assert data[-4:] == bytes(4)
    data[-4:] = first
    assert grey(bytes(data)) == 200


def test_a_huge_page_is_refused_from_its_header():
    data = tiff_pages((20, 15, 9, {}), (40, 30, 200, {}))
    wide = data.replace((40).to_bytes(4, "little"), (4_000_000).to_bytes(4, "little"))
    assert wide != data
    with pytest.raises(DecodeError, match="its header says 4000000x30 pixels"):
        check_header(io.BytesIO(wide))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_turned_page_has_its_upright_size(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.new("L", (30, 40), 200), "TIFF", exif=exif)
    assert decode_fingerprinted(data, height=3, width=4, channels=1).size == (30, 40)
