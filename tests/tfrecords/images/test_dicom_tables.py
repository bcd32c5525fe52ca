import io
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

from dicom_files import bundled, dicom, lookup_table, window
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tfrecords.images.dicom import decode_dicom, read_header
from tfrecords.images.dicom_tables import Table, ybr_to_rgb


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


def test_every_luma_and_chroma_is_rounded_as_fractions_are():
    """ITU-T T.871, 7, with exact arithmetic, at the edges of rounding and beyond the range."""
    random = np.random.default_rng(0)
    ybr = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    ybr[0, :4] = [[0, 253, 3], [255, 253, 3], [128, 3, 253], [0, 0, 255]]  # 1.772 * 125 is 221.5
    found = ybr_to_rgb(ybr)
    for (y, cb, cr), colour in zip(ybr.reshape(-1, 3).tolist(), found.reshape(-1, 3).tolist(), strict=True):
        red = y + Fraction(1402, 1000) * (cr - 128)
        blue = y + Fraction(1772, 1000) * (cb - 128)
        green = (y - Fraction(299, 1000) * red - Fraction(114, 1000) * blue) / Fraction(587, 1000)
        exact = [min(max(int((value + Fraction(1, 2)) // 1), 0), 255) for value in (red, green, blue)]
        assert colour == exact


@pytest.mark.parametrize(
    ("first", "values", "entries"),
    [
        (0, [0, 1, 2, 3, 9], [5, 6, 7, 7, 7]),
        (2, [0, 1, 2, 3, 9], [5, 5, 5, 6, 7]),
        (65534, [-9, -2, -1, 0, 9], [5, 5, 6, 7, 7]),  # -2, for values with a sign
        (65534, [9, 65534, 65535, 70000], [5, 5, 6, 7]),
        (0, [0.49, 0.5, 1.5], [5, 6, 7]),
    ],
)
def test_what_lies_beside_a_table_has_its_ends(first, values, entries):
    table = Table(first, 3, np.array([5, 6, 7]))
    assert table(np.array(values)).tolist() == entries
    np.testing.assert_array_equal(table.share(np.array(values)), np.array(entries) / 7)
