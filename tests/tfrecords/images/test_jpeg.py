"""What libjpeg warns of is refused, and all else gives the pixels that Pillow gives."""

import io

import numpy as np
import pytest
from image_files import pixels, saved
from PIL import Image

from tfrecords.demo import phantom
from tfrecords.images.decode import check_header, decode, decode_fingerprinted
from tfrecords.images.kinds import DecodeError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 61, 3), dtype=np.uint8))
WAYS = {
    "plain": {},
    "grey": {"mode": "L"},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "RGB, not YCbCr": {"keep_rgb": True},
    "CMYK": {"mode": "CMYK"},
}


def jpeg(mode="RGB", **options):
    return saved(NOISE.convert(mode), "JPEG", **options)


def found(data, channels=1, size=(75, 61)):
    return decode(data, height=size[0], width=size[1], channels=channels)


@pytest.mark.parametrize("size", [(75, 61), (15, 12), (8, 7), (4, 4)], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_pixels_are_those_of_pillow(way, size):
    """At the full size, and at 1/2, 1/4 and 1/8 of it."""
    data = jpeg(**WAYS[way])
    for channels, mode in ((1, "L"), (3, "RGB")):
        with Image.open(io.BytesIO(data)) as image:
            image.draft(mode, (2 * max(size), 2 * max(size)))
            gap = 1.5 if image.size != NOISE.size else None
            by_pillow = image.convert(mode).resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=gap)
        np.testing.assert_array_equal(
            found(data, channels, size).reshape(by_pillow.height, by_pillow.width, -1),
            np.asarray(by_pillow).reshape(by_pillow.height, by_pillow.width, -1),
        )


def scan(data):
    """Returns where the data of the last scan begin."""
    start = data.rindex(b"\xff\xda")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4])


def without_the_middle(data):
    at = (scan(data) + len(data)) // 2
    return data[:at].rstrip(b"\xff") + data[-2:]


def with_more_at_the_end(data):
    return data[:-2] + bytes(range(1, 31)) + data[-2:]


def with_a_lost_restart(data):
    at = data.index(b"\xff\xd2", scan(data))
    return data[:at] + b"\xff\xd6" + data[at + 2 :]


def with_an_unknown_code(data):
    """The longest code of each table is made of ones alone, which is none: T.81, C.2 keeps it free."""
    at = scan(data) + 100
    return data[:at] + b"\xff\x00" * 40 + data[at + 80 :]


@pytest.mark.parametrize(
    ("way", "damage", "said"),
    [
        ("plain", without_the_middle, "premature end of data segment"),
        ("grey", without_the_middle, "premature end of data segment"),
        ("progressive", without_the_middle, "premature end of data segment"),
        ("CMYK", without_the_middle, "premature end of data segment"),
        ("plain", with_more_at_the_end, "extraneous bytes before marker 0xd9"),
        ("progressive", with_more_at_the_end, "extraneous bytes before marker 0xd9"),
        ("restarts", with_a_lost_restart, "found marker 0xd6 instead of RST2"),
        ("grey", with_an_unknown_code, ""),
    ],
)
def test_what_libjpeg_calls_damaged_is_refused(way, damage, said):
    data = damage(jpeg(**WAYS[way]))
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # Pillow says nothing
    for channels in (1, 3):
        with pytest.raises(DecodeError) as caught:
            found(data, channels)
        assert str(caught.value).startswith("cannot be decoded: Corrupt JPEG data: ")
        assert said in str(caught.value)


def test_in_a_reduced_decoding_too():
    with pytest.raises(DecodeError, match="premature end of data segment"):
        found(without_the_middle(jpeg()), 1, (8, 7))


def test_bits_that_changed_are_refused_as_often_as_libjpeg_sees_it():
    """Most flipped bits make other pixels of a valid file, which nothing can tell from the true ones."""
    data = jpeg("L", quality=50)
    random, refused = np.random.default_rng(0), 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[random.integers(scan(data), len(data) - 2)] ^= 1 << random.integers(8)
        try:
            found(bytes(damaged))
        except DecodeError:
            refused += 1
    assert 20 < refused < 180


@pytest.mark.parametrize("cut", [1, 2, 30, 400])
def test_a_cut_file_is_refused(cut):
    for way in ("plain", "progressive"):
        with pytest.raises(DecodeError, match=r"^cannot be decoded: "):
            found(jpeg(**WAYS[way])[:-cut])


def test_a_warning_about_a_header_is_no_damage():
    data = jpeg()
    at = data.index(b"JFIF\0") + 5
    odd = data[:at] + b"\x09" + data[at + 1 :]  # a revision that nobody knows
    np.testing.assert_array_equal(found(odd, 3), found(data, 3))
    with pytest.raises(DecodeError, match="truncated"):
        found(odd[:-100], 3)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\xff\xf7\x00\x0b\x10", "a JPEG-LS file; "),
        (b"\xff\xc1\x00\x0b\x0c", "a JPEG file of 12 bits; "),
        (b"\xff\xc3\x00\x0b\x10", "a JPEG file of 16 bits; "),
    ],
)
def test_codings_that_are_not_read_are_named(frame, reason):
    plain = jpeg("L")
    data = plain[: plain.index(b"\xff\xc0")] + frame + b"\0\x10\0\x10\1\1\x11\0"
    for attempt in (lambda: found(data), lambda: check_header(io.BytesIO(data))):
        with pytest.raises(DecodeError) as caught:
            attempt()
        assert str(caught.value).startswith(reason)
        assert "16-bit" in str(caught.value)


def test_a_jpegs_own_luma_is_taken():
    random = np.random.default_rng(0)
    data = saved(Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)), "JPEG", quality=60)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("YCbCr", image.size)
        luma = np.asarray(image)[..., 0]
    with Image.open(io.BytesIO(data)) as image:
        by_way_of_colour = np.asarray(image.convert("L"))
    found = pixels(data, 1, height=16, width=24)[..., 0]
    np.testing.assert_array_equal(found, luma)
    assert (found != by_way_of_colour).any()


def test_a_progressive_jpeg_is_as_any_other():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8))
    plain, progressive = (saved(image, "JPEG", progressive=value) for value in (False, True))
    assert b"\xff\xc0" in plain
    assert b"\xff\xc2" in progressive
    for channels in (1, 3):
        np.testing.assert_array_equal(
            pixels(progressive, channels, height=33, width=47), pixels(plain, channels, height=33, width=47)
        )


def fully_decoded(data, target):
    height, width = target
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L", image.size)
        return np.asarray(image.convert("L").resize((width, height), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("target", [(180, 180), (240, 60), (60, 240)], ids=["square", "tall", "wide"])
@pytest.mark.parametrize("size", [(1857, 1317), (2000, 990), (3100, 2900)])
def test_a_large_jpeg_is_nearly_its_full_decoding(size, target):
    """The bound that the docstring states; a scale of one step more breaks it."""
    for seed in range(4):
        film = phantom.draw(
            np.random.default_rng(seed), phantom.Anatomy.draw(np.random.default_rng(seed)), opacities=True
        )
        noise = np.random.default_rng(seed).normal(0, 12, (size[1], size[0]))
        large = np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BICUBIC)) + noise
        data = saved(Image.fromarray(np.clip(large, 0, 255).astype(np.uint8)), "JPEG", quality=90)
        found = decode_fingerprinted(data, height=target[0], width=target[1], channels=1)
        difference = np.abs(found.pixels[..., 0].astype(int) - fully_decoded(data, target))
        assert difference.max() <= 24
        reduced = min(size) >= 4 * max(target)
        assert (difference.max() > 0) == reduced  # 0 is full decoding
        assert difference.mean() < 1
        assert found.size == (size[1], size[0])  # its own, not what it was decoded at


def test_a_jpeg_below_four_times_the_target_is_decoded_in_full():
    values = np.random.default_rng(0).integers(0, 256, (719, 719), dtype=np.uint8)
    data = saved(Image.fromarray(values), "JPEG")
    np.testing.assert_array_equal(
        pixels(data, 1, height=180, width=180)[..., 0], fully_decoded(data, (180, 180))
    )


def test_a_large_turned_jpeg_keeps_its_own_size():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = saved(Image.new("L", (1600, 1200), 90), "JPEG", exif=exif)
    assert decode_fingerprinted(data, height=180, width=180, channels=1).size == (1600, 1200)


def test_the_first_picture_of_an_mpo_is_the_one():
    """So phones save a picture with its depth, its gain map, or the other lens behind it."""
    random = np.random.default_rng(0)
    first, second = (Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)) for _ in "ab")
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    data = saved(first, "MPO", save_all=True, append_images=[second], exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    check_header(io.BytesIO(data))
    for channels in (1, 3):
        alone = pixels(saved(first, "JPEG", exif=exif), channels, height=40, width=48)
        np.testing.assert_array_equal(pixels(data, channels, height=40, width=48), alone)
        np.testing.assert_allclose(
            alone.mean((0, 1)),
            np.asarray(first.convert("L" if channels == 1 else "RGB")).mean((0, 1)),
            atol=2,
        )
