import io
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

from dicom_files import SYNTAXES, dicom, jpeg_lossless
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from tfrecords.images.decode import check_header, decode
from tfrecords.images.dicom import decode_dicom, read_header
from tfrecords.images.dicom_bytes import codestream_size, transfer_syntax
from tfrecords.images.dicom_file import ALLOWED
from tfrecords.images.kinds import HEAD_BYTES, MAX_PIXELS, DecodeError, check_kind

RAMP = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)
ALL = {"WindowCenter": 2048, "WindowWidth": 4096}
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


def test_voi_tables_overlays_and_the_aspect_ratio_are_not_applied():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [16, 0, 16], b"\7\0" * 16
    more = dicom(RAMP, VOILUTSequence=[table], PixelAspectRatio=[2, 1], PixelSpacing=[2, 1], **ALL)
    assert decode_dicom(more).tolist() == decode_dicom(dicom(RAMP, **ALL)).tolist()
    overlaid = dcmread(get_testdata_file("examples_overlay.dcm", download=False))
    assert overlaid.overlay_array(0x6000).any()
    with_overlay, without = io.BytesIO(), io.BytesIO()
    overlaid.save_as(with_overlay)
    overlaid.group_dataset(0x6000).walk(lambda _, element: overlaid.pop(element.tag))
    overlaid.save_as(without)
    assert len(without.getvalue()) < len(with_overlay.getvalue())
    assert (decode_dicom(with_overlay.getvalue()) == decode_dicom(without.getvalue())).all()


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
            "a DICOM file in colour; MONOCHROME1 and MONOCHROME2 ones are read",
        ),
        (dicom(RAMP, SamplesPerPixel=3), "a DICOM file in colour; MONOCHROME1 and MONOCHROME2 ones are read"),
        (
            dicom(RAMP, BurnedInAnnotation="YES"),
            "a DICOM file whose pixels show annotation (BurnedInAnnotation is YES), a name perhaps; black it "
            "out and say NO there, or remove the file",
        ),
        (
            dicom(RAMP, ModalityLUTSequence=[Dataset()]),
            "a DICOM file with a Modality LUT; only rescale slope and intercept are read",
        ),
        (
            dicom(RAMP, Rows=60_000, Columns=50_000),
            f"its header announces 50000x60000 pixels; at most {MAX_PIXELS} are read",
        ),
        (dicom(RAMP, Rows=0), f"its header announces 5x0 pixels; at most {MAX_PIXELS} are read"),
        (dicom(RAMP, drop=["Rows"]), "a DICOM file whose Rows is missing or no whole number"),
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
        (dicom(RAMP, **window(5, 0, "SIGMOID")), "a DICOM file whose SIGMOID window is too narrow"),
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


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (jpeg_lossless(NOISE.astype(np.int64), 16), (36, 41, 1)),
        (b"\xff\xd8\xff\xff\xff" + jpeg_lossless(NOISE.astype(np.int64), 16)[3:], (36, 41, 1)),
        (b"\xff\xd8\xff\xde\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0", None),
        (b"\xff\xd8\xff\xe0", None),
        (b"\xff\x4f\xff\x51", None),
        (b"", None),
    ],
)
def test_the_size_in_a_compressed_image(data, size):
    assert codestream_size(data) == size


def test_the_size_in_other_makers_images():
    buffer = io.BytesIO()
    Image.fromarray(NOISE[:, :30] >> 8).convert("RGB").save(buffer, "JPEG", progressive=True)
    assert codestream_size(buffer.getvalue()) == (36, 30, 3)


def test_nothing_that_tells_who_when_or_where_is_read_but_the_patients_id():
    kinds = {name: dictionary_VR(name) for name in ALLOWED}
    assert [
        name for name, kind in kinds.items() if kind in ("PN", "DA", "TM", "DT", "AS", "UI", "LT", "ST")
    ] == []
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
