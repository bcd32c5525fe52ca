import zlib

import pytest

pytest.importorskip("pydicom", reason="the dicom extra is not installed")

from dicom_files import NOISE, RAMP, dicom
from PIL import Image
from pydicom.datadict import dictionary_VR

from tfrecords.images.dicom import decode_dicom
from tfrecords.images.dicom_bytes import transfer_syntax
from tfrecords.images.dicom_file import ALLOWED
from tfrecords.images.kinds import DecodeError


def test_a_deflated_bomb_is_refused_before_it_opens():
    plain = dicom(RAMP)
    body = zlib.compress(b"\0" * 100_000_000, wbits=-15)
    at = plain.index(b"1.2.840.10008.1.2.1\0") + 20
    bomb = plain[:at].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99\0\0")
    bomb = bomb.replace(b"\x02\0\x10\0UI\x14\0", b"\x02\0\x10\0UI\x18\0") + body
    assert transfer_syntax(bomb) == "1.2.840.10008.1.2.1.99"
    with pytest.raises(DecodeError, match=r"^a DICOM file in Deflated Explicit VR Little Endian; "):
        decode_dicom(bomb)


def test_nothing_that_tells_who_when_or_where_is_read_but_the_patients_id():
    kinds = {name: dictionary_VR(name) for name in ALLOWED}
    assert [
        name for name, kind in kinds.items() if kind in ("PN", "DA", "TM", "DT", "AS", "UI", "LT", "ST")
    ] == ["SOPClassUID"]  # the kind of object
    assert [name for name, kind in kinds.items() if kind in ("LO", "SH", "UT", "UC")] == ["PatientID"]


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


@pytest.mark.slow
def test_pydicom_is_imported_when_a_dicom_file_is_met(tmp_path, run_python):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.dcm").write_bytes(dicom(RAMP))
    script = DECODE.format(missing="[]")
    assert python(script, tmp_path / "a.png", run_python) == "False\n"
    assert python(script, tmp_path / "a.dcm", run_python) == "True\n"


@pytest.mark.slow
def test_what_is_not_installed_is_named_with_the_command(tmp_path, run_python):
    (tmp_path / "a.dcm").write_bytes(dicom(NOISE, "JPEG lossless"))
    assert python(DECODE.format(missing="['pydicom']"), tmp_path / "a.dcm", run_python) == (
        "InputError a DICOM file, and the package that reads it is not installed; install it with\n"
        '  python -m pip install "pydicom>=3.0.2" pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg\n'
        "True\n"
    )
    assert python(DECODE.format(missing="['pylibjpeg']"), tmp_path / "a.dcm", run_python) == (
        "DecodeError a DICOM file in JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 "
        "[Selection Value 1]), whose decoder is not installed; install it with python -m pip install "
        "pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg\n"
        "True\n"
    )
