import io
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

from dicom_files import SYNTAXES, dicom, in_fragments, item, jpeg_lossless, lookup_table
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from tfrecords.images.decode import check_header, decode
from tfrecords.images.dicom import decode_dicom, read_header
from tfrecords.images.dicom_bytes import transfer_syntax
from tfrecords.images.dicom_file import ALLOWED
from tfrecords.images.kinds import HEAD_BYTES, MAX_PIXELS, DecodeError, check_kind

RAMP = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)
ALL = {"WindowCenter": 2048, "WindowWidth": 4096}
COLOURS = np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 200, 200]], [[9, 99, 199]] * 4])
NOISE = np.random.default_rng(0).integers(0, 1 << 16, (36, 41), dtype=np.uint16)


def window(center, width, function=None, **more):
    function = {"VOILUTFunction": function} if function else {}
    return {"WindowCenter": center, "WindowWidth": width, **function, **more}


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


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
@pytest.mark.parametrize(
    "missing",
    [
        {"PixelRepresentation"},
        {"SamplesPerPixel"},
        {"BitsStored"},
        {"HighBit"},
        {"BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"},
    ],
)
def test_what_is_missing_has_the_standards_default(syntax, missing):
    stored = np.uint16([[100, 200, 40000, 40000], [50000, 40000, 65535, 40000]])
    whole = dicom(stored, syntax, PixelPaddingValue=40000)
    expected = decode_dicom(whole)
    assert expected[0, 0] == 0
    np.testing.assert_array_equal(
        decode_dicom(dicom(stored, syntax, PixelPaddingValue=40000, drop=missing)), expected
    )
    empty = dicom(stored, syntax, PixelPaddingValue=40000, **dict.fromkeys(missing))
    np.testing.assert_array_equal(decode_dicom(empty), expected)


@pytest.mark.parametrize("frames", [0, None, 1])
def test_no_number_of_frames_is_one(frames):
    assert decode_dicom(dicom(RAMP, NumberOfFrames=frames, **ALL)).tolist() == [[0, 62, 125, 187, 249]]


def test_colours_without_their_number_have_three():
    np.testing.assert_array_equal(decode_dicom(dicom(COLOURS, drop=["SamplesPerPixel"])), COLOURS)


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


def palette(red, green, blue, *, bits, first=0, vr="OW"):
    attributes = {}
    for name, entries in (("Red", red), ("Green", green), ("Blue", blue)):
        table = lookup_table(entries, first, bits, kind="u1" if vr == "8" else "<u2")
        for part in ("Descriptor", "Data"):
            attributes[f"{name}PaletteColorLookupTable{part}"] = table[f"LUT{part}"].value
    return {"PhotometricInterpretation": "PALETTE COLOR", **attributes}


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "RLE"])
@pytest.mark.parametrize(
    "tables",
    [
        palette([0, 0x1234, 0xFFFF], [0, 0x80FF, 0x100], [0xFFFF, 0, 0x7F00], bits=16, first=10),
        palette([0, 0x12, 0xFF, 0], [0, 0x80, 1, 1], [0xFF, 0, 0x7F, 0x7F], bits=8, first=10, vr="8"),
        palette([0, 0x12, 0xFF], [0, 0x80, 1], [0xFF, 0, 0x7F], bits=8, first=10),
        palette([0, 0x12, 0xFF], [0, 0x80, 1], [0xFF, 0, 0x7F], bits=16, first=10),  # of 8 in truth
    ],
)
def test_a_palette(syntax, tables):
    found = decode_dicom(dicom(np.uint8([[3, 10, 11], [12, 11, 10]]), syntax, **tables))
    low, middle, high = [0, 0, 255], [0x12, 0x80, 0], [255, 1, 0x7F]
    assert found.tolist() == [[low, low, middle], [high, middle, low]]
    if len(tables["RedPaletteColorLookupTableData"]) == 6:  # what is above the last entry has the last
        found = decode_dicom(dicom(np.uint8([[200, 12]]), syntax, **tables))
        assert found.tolist() == [[high, high]]


def test_a_palette_of_another_maker():
    found = decode_dicom(bundled("examples_palette.dcm"))
    assert found.shape == (350, 800, 3)
    dataset = dcmread(get_testdata_file("examples_palette.dcm", download=False))
    index = np.frombuffer(dataset.PixelData, np.uint8).reshape(350, 800)
    red = np.frombuffer(dataset.RedPaletteColorLookupTableData, "<u2")
    np.testing.assert_array_equal(found[..., 0], red[index] >> 8)


TEN = lookup_table([0, 0, 100, 511, 1023, 1023], first=-2, bits=10)  # for values from -2 to 3
BY_TEN = [0, 0, 0, 25, 127, 255, 255, 255]  # of the values below, entry * 255 / 1023


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"VOILUTSequence": [TEN, lookup_table([7] * 6)]}, BY_TEN),
        ({"VOILUTSequence": [TEN], "PhotometricInterpretation": "MONOCHROME1"}, [255 - x for x in BY_TEN]),
        ({"VOILUTSequence": [TEN], **window(0, 0)}, BY_TEN),
        # the window alone: (x / 7 + 0.5) * 255
        ({"VOILUTSequence": [TEN], **window(0.5, 8)}, [0, 18, 55, 128, 164, 200, 237, 255]),
        # of 2x + 1
        (
            {"VOILUTSequence": [TEN], "RescaleSlope": 2, "RescaleIntercept": 1},
            [0, 0, 0, 127, 255, 255, 255, 255],
        ),
        ({"ModalityLUTSequence": [TEN], **window(512, 1024)}, BY_TEN),
        # percentiles of the entries: the 1st is 0, the 99th 1023
        ({"ModalityLUTSequence": [TEN]}, BY_TEN),
        (
            {"ModalityLUTSequence": [TEN], "VOILUTSequence": [lookup_table(range(0, 1024, 5), bits=10)]},
            "both",
        ),
    ],
)
def test_lookup_tables(syntax, attributes, expected):
    stored = np.int8([[-4, -3, -2, 0, 1, 2, 3, 4]])
    if expected == "both":  # 100 has entry 500, 511 and 1023 the last one, 1020
        expected = [0, 0, 0, 125, 254, 254, 254, 254]
    assert decode_dicom(dicom(stored, syntax, **attributes)).tolist() == [expected]


@pytest.mark.parametrize(
    "table",
    [
        lookup_table([0, 10, 200, 255], bits=8),
        lookup_table([0, 10, 200, 255], bits=8, kind="u1"),  # two in a word
        lookup_table([0, 10, 200, 255], bits=8, vr="US"),
        lookup_table([0, 10 * 257, 200 * 257, 65535]),
        lookup_table([0, 10 * 257, 200 * 257, *[65535] * 65533], count=0),  # 65,536 of them
    ],
)
def test_the_forms_of_a_lookup_table(table):
    found = decode_dicom(dicom(np.uint16([[0, 1, 2, 3, 4000]]), VOILUTSequence=[table]))
    assert found.tolist() == [[0, 10, 200, 255, 255]]
    data = io.BytesIO(dicom(np.uint16([[0, 1, 2, 3, 4000]]), VOILUTSequence=[table]))
    assert read_header(data).voi is not None


def groups(**attributes):
    """Returns an item of a Functional Groups Sequence."""
    window = {name: value for name, value in attributes.items() if not name.startswith("Rescale")}
    rescale = {name: value for name, value in attributes.items() if name.startswith("Rescale")}
    return item(
        **({"FrameVOILUTSequence": [item(**window)]} if window else {}),
        **({"PixelValueTransformationSequence": [item(**rescale)]} if rescale else {}),
    )


RESCALED = window(3000, 8001, RescaleSlope=2, RescaleIntercept=-1000)


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"SharedFunctionalGroupsSequence": [groups(**RESCALED)]},
        {"PerFrameFunctionalGroupsSequence": [groups(**RESCALED)]},
        {
            "SharedFunctionalGroupsSequence": [
                groups(RescaleSlope=2, RescaleIntercept=-1000, **window(1, 7))
            ],
            "PerFrameFunctionalGroupsSequence": [groups(**window(3000, 8001))],
            "WindowCenter": 7,
            "WindowWidth": 70,
            "RescaleSlope": 50,
            "NumberOfFrames": 1,
        },
        {"SharedFunctionalGroupsSequence": [groups()], "PerFrameFunctionalGroupsSequence": [], **RESCALED},
    ],
)
def test_functional_groups_of_one_frame(syntax, attributes):
    assert decode_dicom(dicom(RAMP, syntax, **attributes)).tolist() == [[0, 64, 128, 191, 255]]


def test_a_table_of_values_of_interest_in_a_functional_group():
    data = dicom(
        RAMP, SharedFunctionalGroupsSequence=[groups(VOILUTSequence=[lookup_table([1, 2, 3], bits=2)])]
    )
    assert decode_dicom(data).tolist() == [[85, 255, 255, 255, 255]]


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
    with pytest.raises(DecodeError, match=rf"^a DICOM file of {frames} frames; save the frame that is meant"):
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
    ("kind", "called"),
    [
        ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "Key Object Selection Document"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "Basic Text SR"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State"),
        ("1.2.840.10008.1.3.10", "Media Storage Directory"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(kind, called):
    data = dicom(RAMP, drop=["PixelData"], SOPClassUID=kind)
    for read in (decode_dicom, lambda data: read_header(io.BytesIO(data))):
        with pytest.raises(DecodeError) as caught:
            read(data)
        assert str(caught.value) == f"a DICOM file without an image ({called}); remove it"


def bundled(name):
    return Path(get_testdata_file(name, download=False)).read_bytes()


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


PHOTOMETRIC = "MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_RCT, YBR_ICT"
OTHERS_READ = (
    "uncompressed, RLE, JPEG, JPEG-LS and JPEG 2000 ones are read: store it "
    "uncompressed, with dcmdjpeg or gdcmconv --raw"
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            dicom(RAMP, NumberOfFrames=2),
            "a DICOM file of 2 frames; save the frame that is meant as a file of its own",
        ),
        (dicom(RAMP, drop=["PixelData"]), "a DICOM file without pixel data, or cut before them; remove it"),
        (
            dicom(RAMP, PhotometricInterpretation="RGB"),
            "a DICOM file with SamplesPerPixel 1; it must be 3 where PhotometricInterpretation is RGB",
        ),
        (
            dicom(RAMP, SamplesPerPixel=3),
            "a DICOM file with SamplesPerPixel 3; it must be 1 where PhotometricInterpretation is "
            "MONOCHROME2",
        ),
        (
            dicom(RAMP, PhotometricInterpretation="HSV"),
            f"a DICOM file with a PhotometricInterpretation HSV; read are {PHOTOMETRIC}",
        ),
        (
            dicom(RAMP, PhotometricInterpretation="DOE^JOHN"),
            f"a DICOM file with a PhotometricInterpretation that is unknown; read are {PHOTOMETRIC}",
        ),
        (
            dicom(COLOURS, PhotometricInterpretation="YBR_RCT"),
            "a DICOM file in YBR_RCT, which is of JPEG 2000 alone, and it is none",
        ),
        (
            dicom(COLOURS.astype(np.uint16)),
            "a DICOM file in colour, of 16 bits in 16; 8 in 8 are read",
        ),
        (
            dicom(COLOURS, PlanarConfiguration=7),
            "a DICOM file with PlanarConfiguration 7; 0 and 1 are known",
        ),
        (
            dicom(COLOURS, PhotometricInterpretation="YBR_FULL_422"),
            "a DICOM file whose PixelData is of 24 bytes; YBR_FULL_422 needs 16: PhotometricInterpretation "
            "may have to be RGB or YBR_FULL",
        ),
        (
            dicom(COLOURS[:, :3], PhotometricInterpretation="YBR_FULL_422"),
            "a DICOM file in YBR_FULL_422, of pixels in pairs, of 3 Columns",
        ),
        *(
            (dicom(stored, drop=[name]), f"a DICOM file whose {name} is missing{rest}")
            for stored, name, rest in (
                (RAMP, "PhotometricInterpretation", ": whether more is brighter is not known; add it"),
                (RAMP, "Columns", ""),
                (RAMP, "BitsAllocated", ""),
                (COLOURS, "PlanarConfiguration", ""),
            )
        ),
        *(
            (
                dicom(RAMP, drop=["PixelData"], **{name: b"\0" * 40}),
                f"a DICOM file whose pixels are floating-point numbers ({name}): their range is not known; "
                f"store them as PixelData of 8 to 16 bits",
            )
            for name in ("FloatPixelData", "DoubleFloatPixelData")
        ),
        (
            dicom(RAMP, Rows=2),
            "a DICOM file whose PixelData is of 10 bytes; Rows, Columns, BitsAllocated and SamplesPerPixel "
            "need 20",
        ),
        (
            dicom(RAMP, BitsAllocated=1, BitsStored=1, HighBit=0),
            "a DICOM file of 1 bits in 1; 8 to 16 are read, in 8 or 16, the lowest ones",
        ),
        (
            dicom(NOISE, "JPEG lossless").replace(b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.1\0\0\0"),
            "a DICOM file whose PixelData is in fragments, in a transfer syntax of no compression: "
            "TransferSyntaxUID is wrong or missing",
        ),
        (
            dicom(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"),
            "a DICOM file whose PixelData is not in fragments, in a transfer syntax of a compression: "
            "TransferSyntaxUID is wrong or missing",
        ),
        (
            dicom(RAMP, **window(7777, 1)).replace(b"7777", b"DOE^"),
            "a DICOM file whose WindowCenter is no number",
        ),
        (
            dicom(RAMP, NumberOfFrames=7777).replace(b"7777", b"DOE^"),
            "a DICOM file whose NumberOfFrames is no whole number",
        ),
        (
            dicom(RAMP, BurnedInAnnotation="YES"),
            "a DICOM file whose pixels show annotation (BurnedInAnnotation is YES), a name perhaps; black it "
            "out and say NO there, or remove the file",
        ),
        (
            dicom(RAMP, ModalityLUTSequence=[Dataset()]),
            "a DICOM file whose Modality LUT has no LUTDescriptor",
        ),
        (
            dicom(RAMP, VOILUTSequence=[lookup_table([], count=4)]),
            "a DICOM file whose VOI LUT has no LUTData",
        ),
        (
            dicom(RAMP, VOILUTSequence=[lookup_table([1], count=4)]),
            "a DICOM file whose VOI LUT has 2 bytes for 4 entries",
        ),
        (
            dicom(RAMP, VOILUTSequence=[lookup_table([1, 2], bits=17)]),
            "a DICOM file whose VOI LUT has entries of 17 bits; 1 to 16 are read",
        ),
        (
            dicom(RAMP, VOILUTSequence=[lookup_table([1, 1024], bits=10)]),
            "a DICOM file whose VOI LUT has an entry of 1024, which is not of 10 bits",
        ),
        (
            dicom(np.uint8([[0, 1]]), PhotometricInterpretation="PALETTE COLOR"),
            "a DICOM file whose palette has no RedPaletteColorLookupTableDescriptor",
        ),
        (
            dicom(
                np.uint8([[0, 1]]),
                PhotometricInterpretation="PALETTE COLOR",
                SegmentedRedPaletteColorLookupTableData=b"\0\0",
            ),
            "a DICOM file whose palette is in segments; store it as RGB",
        ),
        (
            dicom(RAMP, Rows=60_000, Columns=50_000),
            f"its header announces 50000x60000 pixels; at most {MAX_PIXELS} are read",
        ),
        (dicom(RAMP, Rows=0), f"its header announces 5x0 pixels; at most {MAX_PIXELS} are read"),
        (dicom(RAMP, drop=["Rows"]), "a DICOM file whose Rows is missing"),
        (
            dicom(RAMP, BitsAllocated=32, BitsStored=32, HighBit=31),
            "a DICOM file of 32 bits in 32; 8 to 16 are read, in 8 or 16, the lowest ones",
        ),
        (
            dicom(RAMP, BitsStored=7, HighBit=6),
            "a DICOM file of 7 bits in 16; 8 to 16 are read, in 8 or 16, the lowest ones",
        ),
        (
            dicom(RAMP, BitsStored=12, HighBit=15),
            "a DICOM file of 12 bits in 16; 8 to 16 are read, in 8 or 16, the lowest ones",
        ),
        (dicom(RAMP, PixelRepresentation=2), "a DICOM file with PixelRepresentation 2; 0 and 1 are known"),
        (
            dicom(RAMP, RescaleSlope=0),
            "a DICOM file with a rescale slope of 0: every pixel would be the same",
        ),
        (
            dicom(RAMP, RescaleSlope="1e300"),
            "a DICOM file whose RescaleSlope is not a number that can be meant",
        ),
        (dicom(RAMP, **window(5, 0.5)), "a DICOM file whose LINEAR window is too narrow"),
        (dicom(RAMP, **window(5, -1, "SIGMOID")), "a DICOM file whose SIGMOID window is too narrow"),
        (dicom(RAMP, **window(5, 5, "MYSTERY")), "a DICOM file with an unknown VOI LUT function"),
        (dicom(RAMP)[:-4], "a DICOM file whose pixel data is damaged or cut"),
        (dicom(RAMP)[:140], f"a DICOM file in an unknown transfer syntax; {OTHERS_READ}"),
        (
            dicom(NOISE, "JPEG lossless", Rows=41, Columns=36),
            "a DICOM file whose compressed image is not of its Rows and Columns",
        ),
        (bundled("image_dfl.dcm"), f"a DICOM file in Deflated Explicit VR Little Endian; {OTHERS_READ}"),
        (
            dicom(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"DOE^JOHN\0\0\0\0\0\0\0\0\0\0\0\0"),
            f"a DICOM file in an unknown transfer syntax; {OTHERS_READ}",
        ),
    ],
)
def test_what_is_refused(data, reason):
    assert check_kind(data[:HEAD_BYTES]) == "DICOM"
    with pytest.raises(DecodeError) as caught:
        decode(data, height=4, width=4, channels=1)
    assert str(caught.value) == reason
    if "pixel data is damaged" not in reason and "compressed image" not in reason:
        with pytest.raises(DecodeError) as caught:
            check_header(io.BytesIO(data))
        assert str(caught.value) == reason


def test_a_deflated_bomb_is_refused_before_it_opens():
    plain = dicom(RAMP)
    body = zlib.compress(b"\0" * 100_000_000, wbits=-15)
    at = plain.index(b"1.2.840.10008.1.2.1\0") + 20
    bomb = plain[:at].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99\0\0")
    bomb = bomb.replace(b"\x02\0\x10\0UI\x14\0", b"\x02\0\x10\0UI\x18\0") + body
    assert transfer_syntax(bomb) == "1.2.840.10008.1.2.1.99"
    with pytest.raises(DecodeError, match=r"^a DICOM file in Deflated Explicit VR Little Endian; "):
        decode_dicom(bomb)


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


def test_nothing_that_tells_who_when_or_where_is_read_but_the_patients_id():
    kinds = {name: dictionary_VR(name) for name in ALLOWED}
    assert [
        name for name, kind in kinds.items() if kind in ("PN", "DA", "TM", "DT", "AS", "UI", "LT", "ST")
    ] == ["SOPClassUID"]  # the kind of object
    assert [name for name, kind in kinds.items() if kind in ("LO", "SH", "UT", "UC")] == ["PatientID"]


@pytest.mark.parametrize(
    ("given", "patient"), [("P-1", "P-1"), ("  P-1 ", "P-1"), ("", ""), (None, ""), ("Ü^7", "Ü^7")]
)
def test_the_patient(given, patient):
    data = dicom(RAMP, PatientID=given, SpecificCharacterSet="ISO_IR 192")
    assert read_header(io.BytesIO(data)).patient == patient
    assert check_header(io.BytesIO(data)) == patient
    assert read_header(io.BytesIO(dicom(RAMP, drop=["PatientID"]))).patient == ""


def test_a_header_is_checked_without_reading_the_pixels():
    class Counted(io.BytesIO):
        most = 0

        def read(self, size=-1):
            found = super().read(size)
            self.most = max(self.most, len(found))
            return found

    file = Counted(dicom(np.zeros((600, 600), np.uint16)))
    assert read_header(file).rows == 600
    assert file.most <= 1 << 16


def python(script, path, run_python):
    done = run_python("-c", script, path)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


DECODE = """
import sys
sys.modules.update(dict.fromkeys({missing}))
from pathlib import Path
from tfrecords.images.decode import decode
from tfrecords.images.kinds import DecodeError
from tfrecords.errors import InputError
try:
    decode(Path(sys.argv[1]).read_bytes(), height=8, width=8, channels=1)
except (DecodeError, InputError) as error:
    print(type(error).__name__, error)
print("pydicom" in sys.modules)
"""


def test_pydicom_is_imported_when_a_dicom_file_is_met(tmp_path, run_python):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.dcm").write_bytes(dicom(RAMP))
    script = DECODE.format(missing="[]")
    assert python(script, tmp_path / "a.png", run_python) == "False\n"
    assert python(script, tmp_path / "a.dcm", run_python) == "True\n"


def test_what_is_not_installed_is_named_with_the_command(tmp_path, run_python):
    (tmp_path / "a.dcm").write_bytes(dicom(NOISE, "JPEG lossless"))
    assert python(DECODE.format(missing="['pydicom']"), tmp_path / "a.dcm", run_python) == (
        "InputError a DICOM file, and what reads it is not installed; install it with\n"
        '  python -m pip install "pydicom>=3.0.2" pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg\n'
        "True\n"
    )
    assert python(DECODE.format(missing="['pylibjpeg']"), tmp_path / "a.dcm", run_python) == (
        "DecodeError a DICOM file in JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 "
        "[Selection Value 1]), and its decoder is not installed; install it with python -m pip install "
        "pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg\n"
        "True\n"
    )
