import io

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

from dicom_files import (
    ALL,
    COLOURS,
    NOISE,
    RAMP,
    SYNTAXES,
    bundled,
    dicom,
    in_fragments,
    jpeg_lossless,
    window,
)
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from tfrecords.images.decode import decode
from tfrecords.images.dicom import decode_dicom, read_header
from tfrecords.images.kinds import HEAD_BYTES, DecodeError, check_kind


@pytest.mark.parametrize(
    ("stored", "attributes", "expected"),
    [
        # LINEAR: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, rounded
        pytest.param(RAMP, ALL, [0, 62, 125, 187, 249], id="window"),
        pytest.param(
            RAMP,
            {**ALL, "PhotometricInterpretation": "MONOCHROME1"},
            [255, 193, 130, 68, 6],
            id="MONOCHROME1",
        ),
        pytest.param(RAMP, window([2048, 40], [4096, 400]), [0, 62, 125, 187, 249], id="the first of two"),
        pytest.param(
            RAMP,
            window(3000, 8001, RescaleSlope=2, RescaleIntercept=-1000),
            [0, 64, 128, 191, 255],
            id="rescale before the window",
        ),
        pytest.param(
            RAMP,
            window(-2047, 4096, RescaleSlope=-1, RescaleIntercept=0),
            [255, 193, 130, 68, 6],
            id="negative slope",
        ),
        pytest.param(RAMP, window(2000, 2000, "LINEAR_EXACT"), [0, 0, 128, 255, 255], id="LINEAR_EXACT"),
        pytest.param(RAMP, window(2000, 2000, "SIGMOID"), [5, 30, 128, 225, 250], id="SIGMOID"),
        pytest.param(RAMP, window(2000.5, 1), [0, 0, 0, 255, 255], id="a window of one value"),
        pytest.param(
            np.int16([[-2000, -1000, 0, 1000, 2000]]), window(0, 4001), [0, 64, 128, 191, 255], id="signed"
        ),
        pytest.param(np.uint8([[0, 64, 128, 255]]), window(128, 256), [0, 64, 128, 255], id="8 bits"),
        pytest.param(np.int8([[-128, -64, 0, 127]]), window(0, 256), [0, 64, 128, 255], id="8 bits, signed"),
        pytest.param(
            np.uint16([[0xFC00, 0xFC00 | 341, 682, 0x0400 | 1023]]),
            window(512, 1024, bits=10),
            [0, 85, 170, 255],
            id="bits beside the stored ones",
        ),
        pytest.param(
            np.int16([[-512, -171, 0x0400 | 170, 511]]),
            window(0, 1024, bits=10),
            [0, 85, 170, 255],
            id="10 bits, signed",
        ),
        pytest.param(np.uint16([[7, 7]]), {}, [0, 0], id="flat"),
        pytest.param(RAMP, window([0, 2048], [0, 4096]), [0, 62, 125, 187, 249], id="the first of a width"),
        pytest.param(RAMP, window(0, 0), [0, 62, 128, 193, 255], id="a width of 0 is none"),
        pytest.param(
            RAMP,
            window(3000, 8001, RescaleSlope=2, RescaleIntercept=-1000, RescaleType="HU"),
            [0, 64, 128, 191, 255],
            id="in Hounsfield units",
        ),
        pytest.param(RAMP, {**ALL, "RescaleSlope": None}, [0, 62, 125, 187, 249], id="an empty slope"),
    ],
)
def test_pixels(stored, attributes, expected):
    data = dicom(stored, **attributes)
    assert decode_dicom(data).tolist() == [expected]
    height, width = stored.shape
    for channels in (1, 3):
        found = decode(data, height=height, width=width, channels=channels)
        assert found.tolist() == [[[value] * channels for value in expected]]


def test_without_a_window_the_1st_to_the_99th_percentile_are_shown():
    stored = np.arange(101, dtype=np.uint16)[None]
    found = decode_dicom(dicom(stored))[0]
    assert [found[x].tolist() for x in (0, 1, 25, 50, 99, 100)] == [0, 0, 62, 128, 255, 255]
    inverted = decode_dicom(dicom(stored, PhotometricInterpretation="MONOCHROME1"))[0]
    np.testing.assert_array_equal(inverted, 255 - found)
    falling = decode_dicom(dicom(stored, RescaleSlope=-3, RescaleIntercept=1000))[0]
    np.testing.assert_array_equal(falling, found[::-1])


def test_the_percentiles_leave_padding_out():
    stored = np.array([[*range(101), *[5000] * 100]], np.uint16)
    for more in ({"PixelPaddingValue": 5000}, {}):
        found = decode_dicom(dicom(stored, **more))[0]
        assert (found[:101].tolist() == decode_dicom(dicom(stored[:, :101]))[0].tolist()) is bool(more)
    assert found[:101].max() < 6


@pytest.mark.parametrize(
    ("syntax", "bits", "signed"),
    [
        (syntax, bits, signed)
        for syntax in SYNTAXES
        for bits, signed in ((8, False), (10, True), (12, False), (16, True), (16, False))
        if bits == 8 or syntax != "JPEG baseline"
    ],
)
def test_every_transfer_syntax_gives_the_same_pixels(syntax, bits, signed):
    stored = NOISE >> 16 - bits
    if signed:
        stored = (stored.astype(np.int32) - (1 << bits - 1)).astype(np.int16)
    stored = stored.astype(np.uint8) if bits == 8 else stored
    wide = window(0 if signed else 1 << bits - 1, 1 << bits, bits=bits)
    expected = np.floor((NOISE >> 16 - bits) / ((1 << bits) - 1) * 255 + 0.5)
    if syntax == "JPEG baseline":
        found = decode_dicom(dicom(stored, syntax, **wide))
        np.testing.assert_allclose(found.astype(int), expected, atol=3)
    else:
        np.testing.assert_array_equal(decode_dicom(dicom(stored, syntax, **wide)), expected)


def test_overlays_the_aspect_ratio_and_the_presentation_are_not_applied():
    more = dicom(RAMP, PresentationLUTShape="INVERSE", PixelAspectRatio=[2, 1], PixelSpacing=[2, 1], **ALL)
    assert decode_dicom(more).tolist() == decode_dicom(dicom(RAMP, **ALL)).tolist()
    overlaid = dcmread(get_testdata_file("examples_overlay.dcm", download=False))
    assert overlaid.overlay_array(0x6000).any()
    with_overlay, without = io.BytesIO(), io.BytesIO()
    overlaid.save_as(with_overlay)
    overlaid.group_dataset(0x6000).walk(lambda _, element: overlaid.pop(element.tag))
    overlaid.save_as(without)
    assert len(without.getvalue()) < len(with_overlay.getvalue())
    assert (decode_dicom(with_overlay.getvalue()) == decode_dicom(without.getvalue())).all()


@pytest.mark.parametrize(
    ("syntax", "planar"),
    [
        *((syntax, planar) for syntax in ("explicit", "implicit", "big endian") for planar in (0, 1)),
        ("RLE", 0),
        ("JPEG 2000", 0),
    ],
)
def test_colours(syntax, planar):
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (35, 37, 3), dtype=np.uint8)  # of an odd number of bytes
    stored = colours.transpose(2, 0, 1) if planar else colours
    pixels = {} if syntax in ("RLE", "JPEG 2000") else {"pixels": stored.tobytes() + b"\0"}
    data = dicom(colours, syntax, PlanarConfiguration=planar, WindowCenter=9, WindowWidth=3, **pixels)
    assert read_header(io.BytesIO(data)).samples == 3
    np.testing.assert_array_equal(decode_dicom(data), colours)
    np.testing.assert_array_equal(decode(data, height=35, width=37, channels=3), colours)
    grey = decode(data, height=35, width=37, channels=1)[..., 0]
    np.testing.assert_allclose(grey, colours @ [0.299, 0.587, 0.114], atol=0.6)


def rgb_of(ybr):
    """PS3.3, C.7.6.3.1.2, solved for RGB."""
    matrix = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    found = (ybr.astype(float) - [0, 128, 128]) @ np.linalg.inv(matrix).T
    return np.clip(np.floor(found + 0.5), 0, 255)


@pytest.mark.parametrize("planar", [0, 1])
def test_luma_and_chroma(planar):
    ybr = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    stored = ybr.transpose(2, 0, 1) if planar else ybr
    data = dicom(
        ybr, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=planar, pixels=stored.tobytes()
    )
    np.testing.assert_allclose(decode_dicom(data), rgb_of(ybr), atol=1)
    assert (decode_dicom(data) == rgb_of(ybr)).mean() > 0.99  # of the matrix six decimals are given


def test_chroma_of_two_pixels():
    stored = np.uint8([10, 20, 90, 160, 200, 250, 128, 128])  # Y, Y, Cb, Cr
    data = dicom(
        np.zeros((1, 4, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422", pixels=stored.tobytes()
    )
    ybr = np.uint8([[[10, 90, 160], [20, 90, 160], [200, 128, 128], [250, 128, 128]]])
    np.testing.assert_array_equal(decode_dicom(data), rgb_of(ybr))
    assert decode_dicom(data)[0, 2:].tolist() == [[200, 200, 200], [250, 250, 250]]


def saved(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=100, subsampling=0, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_a_jpeg_tells_its_own_colours(photometric):
    colours = np.repeat(np.repeat(COLOURS, 8, 0), 8, 1)
    with_jfif, with_adobe = saved(colours), saved(colours, keep_rgb=True)
    assert b"JFIF" in with_jfif
    assert b"JFIF" not in with_adobe
    for stream in (with_jfif, with_adobe):
        data = dicom(colours, "JPEG baseline", PhotometricInterpretation=photometric, pixels=[stream])
        np.testing.assert_allclose(decode_dicom(data).astype(int), colours, atol=4)


def test_a_jpeg_that_does_not_tell_has_the_headers_colours():
    colours = np.repeat(np.repeat(COLOURS, 8, 0), 8, 1)
    stream = saved(colours)
    bare = stream[:2] + stream[2 + 18 :]  # without JFIF's marker
    assert b"JFIF" not in bare
    found = {
        name: decode_dicom(dicom(colours, "JPEG baseline", PhotometricInterpretation=name, pixels=[bare]))
        for name in ("RGB", "YBR_FULL_422")
    }
    np.testing.assert_allclose(found["YBR_FULL_422"].astype(int), colours, atol=4)
    np.testing.assert_allclose(found["RGB"], Image.fromarray(colours).convert("YCbCr"), atol=4)


BARS = [  # of the files SC_rgb_*.dcm of the toolkits GDCM and DCMTK, at rows 5, 15, 25...
    *([255, 0, 0], [255, 128, 128], [0, 255, 0], [128, 255, 128], [0, 0, 255]),
    *([128, 128, 255], [0, 0, 0], [64, 64, 64], [192, 192, 192], [255, 255, 255]),
]


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("SC_rgb_rle.dcm", 0),
        ("SC_rgb_gdcm_KY.dcm", 0),  # JPEG 2000
        ("SC_rgb_jpeg_gdcm.dcm", 0),  # lossless
        ("SC_ybr_full_422_uncompressed.dcm", 5),
        ("SC_rgb_jpeg_dcmtk.dcm", 5),
        ("SC_rgb_jpeg_lossy_gdcm.dcm", 2),
        ("SC_rgb_dcmtk_+eb+cr.dcm", 2),
        ("SC_rgb_dcmtk_+eb+cy+np.dcm", 5),
        ("SC_rgb_jls_lossy_line.dcm", 5),
        ("SC_rgb_jls_lossy_sample.dcm", 5),
    ],
)
def test_colours_of_other_makers(name, most):
    found = decode_dicom(bundled(name))
    assert found.shape == (100, 100, 3)
    np.testing.assert_allclose(found[5::10, 50].astype(int), BARS, atol=most)


FRAME = jpeg_lossless(NOISE.astype(np.int64), 16)


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (dicom(RAMP, PerFrameFunctionalGroupsSequence=[Dataset()] * 3), 3),
        (dicom(RAMP, NumberOfFrames=0, pixels=RAMP.tobytes() * 4), 4),
        (dicom(NOISE, "JPEG lossless", pixels=[FRAME, FRAME]), 2),
        (dicom(NOISE, "JPEG lossless", pixels=[FRAME[:90], FRAME[90:], FRAME]), 2),
    ],
)
def test_frames_that_no_number_tells(data, frames):
    with pytest.raises(DecodeError, match=rf"^a DICOM file of {frames} frames; save the frame that you need"):
        decode_dicom(data)


def test_frames_in_an_offset_table():
    data = dicom(NOISE, "JPEG lossless")
    at = data.index(b"\xfe\xff\x00\xe0")
    two = data[:at] + in_fragments([FRAME, FRAME[2:]], [0, len(FRAME) + 8])
    with pytest.raises(DecodeError, match=r"^a DICOM file of 2 frames"):
        decode_dicom(two)
    one = data[:at] + in_fragments([FRAME], [0])
    np.testing.assert_array_equal(decode_dicom(one), decode_dicom(data))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_an_image_in_fragments_without_offsets(parts):
    size = -(-len(FRAME) // parts) // 2 * 2 + 2
    fragments = [FRAME[start : start + size] for start in range(0, len(FRAME), size)]
    assert len(fragments) == parts
    found = decode_dicom(dicom(NOISE, "JPEG lossless", pixels=fragments, **window(1 << 15, 1 << 16)))
    np.testing.assert_array_equal(found, np.floor(NOISE / 65535 * 255 + 0.5))


def test_compressed_bits_are_the_streams_own():
    stored = (NOISE >> 8).astype(np.int64)
    wide = dicom(NOISE >> 8, "JPEG lossless", bits=8, pixels=[jpeg_lossless(stored, 8)], **window(128, 256))
    np.testing.assert_array_equal(decode_dicom(wide), stored)  # 8 bits of 16 that are allocated
    data = dicom(stored.astype(np.uint8), "JPEG lossless", pixels=[jpeg_lossless(stored, 12)])
    with pytest.raises(DecodeError, match=r"compressed image has 12 bits; BitsAllocated is 8$"):
        decode_dicom(data)


@pytest.mark.parametrize("behind", [b"", b"\0", b"\0" * 7, b"\0" * 100, b"\1\2"])
def test_padding_behind_the_pixels(behind):
    stored = np.uint8([[0, 64, 128], [255, 1, 2], [3, 4, 5]])  # 9 bytes
    data = dicom(stored, pixels=stored.tobytes() + behind, **window(128, 256))
    np.testing.assert_array_equal(decode_dicom(data), stored)


@pytest.mark.parametrize(
    ("padding", "limit"), [(-2000, None), (63536, None), (-2000, -1900), (-1900, -2000), (63536, 63636)]
)
def test_padding_by_another_sign_and_in_a_range(padding, limit):
    stored = np.int16([[*range(101), *[-2000] * 50, *[-2000 if limit is None else -1950] * 50]])
    data = dicom(stored)
    element = b"".join(
        b"\x28\0" + number + b"US\x02\0" + (value & 0xFFFF).to_bytes(2, "little")
        for number, value in ((b"\x20\x01", padding), (b"\x21\x01", limit))
        if value is not None
    )
    at = data.index(b"\xe0\x7f\x10\0")
    padded = data[:at] + element + data[at:]
    assert decode_dicom(padded)[0, :101].tolist() == decode_dicom(dicom(stored[:, :101]))[0].tolist()
    assert decode_dicom(data)[0, :101].min() > 200


def test_what_other_software_leaves_in_a_file():
    """Odd lengths, private elements, and bytes behind the end."""
    data = dicom(RAMP, **ALL)
    at = data.index(b"\x10\0\x20\0LO")
    odd = b"\x08\0\x80\0LO\x03\0abc" + b"\x09\0\x10\0LO\x04\0MINE" + b"\x09\0\x01\x10UN\0\0\x03\0\0\0xyz"
    for end in (b"", b"\0" * 3, b"\0" * 128, b"\xfc\xff\xfc\xffOB\0\0\x06\0\0\0\0\0\0\0\0\0"):
        found = decode_dicom(data[:at] + odd + data[at:] + end)
        assert found.tolist() == [[0, 62, 125, 187, 249]]


@pytest.mark.parametrize(
    "name", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"]
)
def test_files_of_other_makers_agree(name):
    np.testing.assert_array_equal(
        decode_dicom(bundled(f"MR_small_{name}.dcm")), decode_dicom(bundled("MR_small.dcm"))
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("JPGExtended.dcm", (1024, 256)),
        ("JPEGLSNearLossless_08.dcm", (45, 10)),
        ("JPEGLSNearLossless_16.dcm", (50, 10)),
        ("JPEG2000.dcm", (1024, 256)),
        ("CT_small.dcm", (128, 128)),
    ],
)
def test_files_of_other_makers_are_read(name, shape):
    found = decode_dicom(bundled(name))
    assert found.shape == shape
    assert len(np.unique(found)) > 4


def test_every_cut_is_refused_or_harmless():
    for syntax in ("explicit", "RLE", "JPEG lossless"):
        data = dicom(NOISE[:9, :10], syntax, bits=16)
        whole = decode_dicom(data)
        for size in range(HEAD_BYTES, len(data)):
            try:
                found = decode_dicom(data[:size])
            except DecodeError:
                continue
            assert size > len(data) - 20  # the end marks of a compressed image may be lost
            np.testing.assert_array_equal(found, whole)


def test_a_tiff_header_before_a_dicom_file_is_passed_over():
    data = dicom(RAMP, **ALL)
    assert check_kind((b"II*\0" + data[4:])[:HEAD_BYTES]) == "DICOM"
    assert decode_dicom(b"II*\0" + data[4:]).tolist() == decode_dicom(data).tolist()
