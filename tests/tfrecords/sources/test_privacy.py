"""The canary: DICOM files full of planted names, ids and dates, none of which comes out anywhere."""

import base64
import csv
import os
import re
import shutil
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.sources.privacy import GroupKey, load_key

SMALL = ("--size=24", "--val_fraction=0.2", "--test_fraction=0.2", "--shard_size=64KB")
NAME, PATIENT = "ZYXQUILLFEATHER^PTOLEMAEUS", "MRN77310422"
HEADER = {
    "PatientName": NAME,
    "PatientBirthDate": "19470813",
    "PatientAddress": "13 Gooseberrylane",
    "OtherPatientNames": "Brambleshanks^Euphemia",
    "StudyDate": "20190317",
    "AcquisitionTime": "094233",
    "InstitutionName": "Kestrelhaven Infirmary",
    "ReferringPhysicianName": "Mollywobble^Archibald",
    "AccessionNumber": "ACC5566778",
    "StationName": "WARDSTATIONX9",
    "StudyDescription": "chest of Ptolemaeus",
    "ImageComments": "Wündervogel, see letter",
    "SpecificCharacterSet": "ISO_IR 192",
    "StudyInstanceUID": "1.2.826.0.1.3680043.10.98765432.1",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.10.98765432.2",
}
FOLDER, FILE = "ward Kestrelhaven/ZYXQUILLFEATHER", "Ptolemaeus 13.08.1947 Wündervogel"
TOKENS = (
    *("zyxquillfeather", "ptolemaeus", "mrn77310422", "77310422", "19470813", "1947-08-13", "13.08.1947"),
    *("gooseberrylane", "brambleshanks", "euphemia", "20190317", "2019-03-17", "kestrelhaven", "infirmary"),
    *("mollywobble", "archibald", "acc5566778", "5566778", "wardstationx9", "wündervogel", "98765432"),
    *("1.2.826.0.1.3680043",),
)


def forms(token):
    """Yields the ways in which a token may be written."""
    for text in {token, token.upper(), token.title(), token.capitalize()}:
        yield text.encode()
        yield text.encode("utf-16-le")
        yield text.encode("latin-1")
        yield quote(text).encode()
        yield text.encode("unicode_escape")
        yield text.encode().hex().encode()
        for skipped in range(3):  # base64 of a text that it is somewhere in
            whole = base64.b64encode(b" " * skipped + text.encode())
            yield whole[(0, 2, 3)[skipped] : (skipped + len(text.encode())) * 8 // 6]


FORMS = {token: [form.lower() for form in forms(token) if len(form) >= 6] for token in TOKENS}


def found_in(data):
    lower = data.lower()
    return {token for token, ways in FORMS.items() if any(way in lower for way in ways)}


def outputs(done, *folders):
    """Yields (where, bytes): what a process printed, and the files in folders with their names."""
    yield "stdout", done.stdout.encode()
    yield "stderr", done.stderr.encode()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            yield f"name of {path}", os.fsencode(path.relative_to(folder))
            if path.is_file():
                yield str(path), path.read_bytes()


def assert_clean(done, *folders):
    leaks = {where: leaked for where, data in outputs(done, *folders) if (leaked := found_in(data))}
    assert leaks == {}


def write_set(root, *, splits=("",), patients=6):
    """Two classes of `patients` patients with two images each: 12 patients a split in all."""
    pytest.importorskip("pydicom", reason="the dicom extra is not installed")
    from dicom_files import dicom, item

    told = item(WindowCenter=2048, WindowWidth=4096, WindowCenterWidthExplanation="of Ptolemaeus")
    frames = item(
        FrameVOILUTSequence=[told],
        FrameContentSequence=[item(FrameAcquisitionDateTime="19470813094233", FrameComments="Wündervogel")],
    )
    number = 0
    for split in splits:
        for label in ("NORMAL", "PNEUMONIA"):
            for _ in range(patients):
                for view in range(2):
                    number += 1
                    random = np.random.default_rng(number)
                    # Folders of one name below two class folders would be refused.
                    below = "/".join(f"{part} {split}{label}" for part in FOLDER.split("/"))
                    path = root / split / label / below / f"{FILE} {number:03}.dcm"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    uid = f"1.2.826.0.1.3680043.10.98765432.{number}"
                    path.write_bytes(
                        dicom(
                            random.integers(0, 4096, (36, 40)).astype(np.uint16),
                            ("explicit", "JPEG lossless")[view],
                            bits=12,
                            PatientID=f"{PATIENT}-{number - view}",
                            SOPInstanceUID=uid,
                            SharedFunctionalGroupsSequence=[frames],
                            **HEADER,
                        )
                    )
    return root


@pytest.fixture(scope="module")
def dicom_folder(tmp_path_factory):
    """24 DICOM files of 12 patients; read only, copy it to harm it."""
    return write_set(tmp_path_factory.mktemp("dicom") / "images")


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "group.key"
    path.write_bytes(bytes(range(100, 132)))
    return path


@pytest.fixture(scope="module")
def convert(run_command, key):
    def run(images, out, *arguments, key=key):
        with_key = [f"--group_key_file={key}"] if key else []
        return run_command(
            "tfrecords.convert", f"--images={images}", f"--out={out}", *with_key, *SMALL, *arguments
        )

    return run


@pytest.fixture(scope="module")
def converted(convert, dicom_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "data"
    done = convert(dicom_folder, out, "--workers=1")
    assert done.returncode == 0, done.stderr
    return done, out


def rows(out):
    with (out / "sources.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_planted_is_found(dicom_folder):
    """Else the tests below could not fail."""
    path = next(dicom_folder.rglob("*.dcm"))
    assert found_in(path.read_bytes() + os.fsencode(path)) >= set(TOKENS) - {"1947-08-13", "2019-03-17"}
    for token in TOKENS:
        written = f"..{token.upper()}.."
        for hidden in (quote(written), base64.b64encode(written.encode()).decode(), written.encode().hex()):
            assert token in found_in(hidden.encode())


def test_a_conversion_shows_nothing(converted):
    done, out = converted
    assert_clean(done, out)
    assert len(rows(out)) == 24


@pytest.mark.slow
@pytest.mark.parametrize("command", ["show", "verify"])
def test_looking_at_it_shows_nothing(converted, run_command, tmp_path, command):
    data = shutil.copytree(converted[1], tmp_path / "data")  # show writes into it
    done = run_command(f"tfrecords.{command}", f"--data={data}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_clean(done, tmp_path)


@pytest.mark.slow
def test_ids_and_groups(converted, convert, dicom_folder, tmp_path):
    table = rows(converted[1])
    assert all(re.fullmatch(r"(NORMAL|PNEUMONIA)/[0-9a-f]{32}", row["id"]) for row in table)
    assert all(row["id"].split("/")[0] == row["class"] for row in table)
    assert len({row["id"] for row in table}) == 24
    groups = [row["group"] for row in table]
    assert groups[::2] == groups[1::2]  # two images of each patient, one after the other
    assert len(set(groups)) == 12

    def columns(out):
        return [(row["id"], row["group"]) for row in rows(out)]

    assert convert(dicom_folder, tmp_path / "seed", "--seed=7").returncode == 0
    assert columns(tmp_path / "seed") == columns(converted[1])  # they follow from the key alone
    other = tmp_path / "other.key"
    other.write_bytes(b"k" * 32)
    assert convert(dicom_folder, tmp_path / "key", key=other).returncode == 0
    for mine, others in zip(columns(converted[1]), columns(tmp_path / "key"), strict=True):
        assert mine[0] != others[0]
        assert mine[1] != others[1]


@pytest.mark.slow
def test_the_bytes_are_the_same_for_any_number_of_workers(converted, convert, dicom_folder, tmp_path):
    assert convert(dicom_folder, tmp_path / "out", "--workers=2").returncode == 0
    files = {path.name: path.read_bytes() for path in converted[1].iterdir() if path.is_file()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()} == files


def test_the_key_is_not_in_the_output(converted, key):
    done, out = converted
    secret = key.read_bytes()
    for where, data in outputs(done, out):
        assert secret not in data, where
        assert secret.hex().encode() not in data.lower(), where


def test_without_a_key_dicom_is_refused(convert, dicom_folder, tmp_path, facts):
    done = convert(dicom_folder, tmp_path / "out", key=None)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        facts(
            f"error: {dicom_folder}: has DICOM files; hashing their patient ids needs --group_key_file; "
            f"make one, once, keep it where the images are kept, and give it with every conversion:\n"
            f"  head -c 32 /dev/urandom > group.key\n"
            f"  python -m tfrecords.convert --group_key_file=group.key --images={dicom_folder} ...\n"
        ),
        done.stderr,
    )
    assert not (tmp_path / "out").exists()


def cut(path):
    path.write_bytes(path.read_bytes()[:-300])


def lose_mark(path):
    data = path.read_bytes()
    path.write_bytes(HEADER["InstitutionName"].encode() + data[40:128] + b"XXXX" + data[132:])


def break_header(path):
    data = path.read_bytes()
    path.write_bytes(data[:200])


def frames(path):
    from pydicom import dcmread

    dataset = dcmread(path)
    dataset.NumberOfFrames = 3
    dataset.save_as(path)


def no_patient(path):
    from pydicom import dcmread

    dataset = dcmread(path)
    dataset.PatientID = ""
    dataset.save_as(path)


def odd_syntax(path):
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.", b"ZYXQUILLFEATHER^PT"))


HARMS = (
    (lose_mark, "not an image; allowed are JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF, HEIC, JPEG 2000, DICOM"),
    (break_header, "a DICOM file in an unknown transfer syntax"),
    (frames, "a DICOM file of 3 frames; save the frame that you need as a file of its own"),
    (no_patient, "a DICOM file without a PatientID; name the patients with --group_regex"),
    (odd_syntax, "a DICOM file in an unknown transfer syntax"),
    (lambda path: path.write_text(f"{NAME}: notes"), "text, not an image; allowed are"),
    (lambda path: path.write_bytes(b""), "the file is empty (0 bytes)"),
    (lambda path: (path.unlink(), path.symlink_to(f"{NAME}.dcm")), "No such file or directory"),
)


@pytest.mark.slow
@pytest.mark.parametrize("harms", [HARMS, [(cut, "a DICOM file whose pixel data is damaged or cut")]])
def test_an_error_names_positions_alone(convert, dicom_folder, tmp_path, harms):
    images = shutil.copytree(dicom_folder, tmp_path / "images")
    expected = []
    for number, (harm, reason) in enumerate(harms):
        name, place = ("NORMAL", "PNEUMONIA")[number % 2], number // 2 * 2  # one image of a patient
        harm(sorted((images / name).rglob("*.dcm"))[place])
        expected.append((f"{name}, file {place + 1}", reason))
    done = convert(images, tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    for position, reason in expected:
        assert f"{position}: {reason}" in done.stderr
    assert_clean(done, *[tmp_path / "out"] if (tmp_path / "out").exists() else [])
    left_out = convert(images, tmp_path / "out", f"--max_rejects={len(harms)}")
    assert left_out.returncode == 0, left_out.stderr
    assert_clean(left_out, tmp_path / "out")
    table = (tmp_path / "out" / "rejected.csv").read_text()
    assert all(reason in table for _, reason in expected)


def split_patient(images):
    """One patient in two splits."""
    shutil.move(next((images / "train" / "NORMAL").rglob("*001.dcm")), images / "val/NORMAL" / f"{NAME}.dcm")


def loose(images):
    shutil.copy(next(images.rglob("*001.dcm")), images / "train" / f"{NAME}.dcm")


def loop(images):
    below = next((images / "train" / "NORMAL").rglob("*.dcm")).parent
    (below / NAME).symlink_to(images / "train" / "NORMAL")


def twin(images):
    """The same file in two classes."""
    shutil.copy(next((images / "train/NORMAL").rglob("*001.dcm")), images / "train/PNEUMONIA" / f"{NAME}.dcm")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "arguments", "message"),
    [
        (split_patient, (), "groups are in two splits, first '"),
        (
            loose,
            (),
            "/train: has a DICOM file outside the class folders; put it into the folder of its class",
        ),
        (loop, (), "/train/NORMAL: has a symbolic link below it to a folder above it; remove the link"),
        (twin, (), ""),
        (
            lambda images: None,
            ("--group_regex=^(nothing)",),
            "does not match 48 of 48 images, first NORMAL, ",
        ),
        (lambda images: None, ("--val_fraction=2",), "--val_fraction=2.0 and "),
    ],
)
def test_other_errors_show_nothing(convert, tmp_path, harm, arguments, message):
    images = write_set(tmp_path / "images", splits=("train", "val"))
    harm(images)
    done = convert(images, tmp_path / "out", *arguments)
    if harm is not twin:
        assert done.returncode == 2, done.stderr
    assert message.replace("first NORMAL", "first train/NORMAL") in done.stderr
    assert_clean(done, *[tmp_path / "out"] if (tmp_path / "out").exists() else [])


@pytest.mark.slow
def test_groups_by_an_expression_go_before_the_patients_id(convert, dicom_folder, tmp_path):
    done = convert(dicom_folder, tmp_path / "out", r"--group_regex=(\d+)\.dcm$")
    assert done.returncode == 0, done.stderr
    assert len({row["group"] for row in rows(tmp_path / "out")}) == 24
    assert_clean(done, tmp_path / "out")


@pytest.mark.slow
def test_the_versions_of_the_decoders_are_kept(converted, convert, image_folder, tmp_path):
    import json

    def versions(out):
        return set(json.loads((out / "manifest.json").read_text())["versions"])

    assert convert(image_folder, tmp_path / "out", key=None).returncode == 0
    decoders = {"pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg"}
    assert versions(converted[1]) == versions(tmp_path / "out") | decoders
    assert not versions(tmp_path / "out") & decoders


@pytest.mark.slow
def test_a_key_hides_other_images_too(convert, image_folder, tmp_path):
    done = convert(image_folder, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "out")
    assert all(re.fullmatch(r"(NORMAL|PNEUMONIA)/[0-9a-f]{32}", row["id"]) for row in table)
    assert len({row["group"] for row in table}) == 24
    images = shutil.copytree(image_folder, tmp_path / "images")
    (images / "NORMAL" / "IM-0000-0000.jpeg").write_bytes(b"")
    done = convert(images, tmp_path / "other")
    assert "\n  NORMAL, file 1: the file is empty (0 bytes)\n" in done.stderr
    assert "IM-0" not in done.stderr


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"k" * 31, "has 31 bytes, 32 random ones or more are needed"),
    ],
)
def test_a_key_that_cannot_be(tmp_path, content, found, facts):
    path = tmp_path / "group.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_key(path)
    assert re.search(
        facts(
            f"--group_key_file={path}: {found}; make one, once, keep it where the images are kept, and give "
            f"it with every conversion:\n  head -c 32 /dev/urandom > {path}"
        ),
        str(caught.value),
    )


def test_hashes_by_a_key():
    one, other = GroupKey(b"a" * 32), GroupKey(b"a" * 33)
    assert one.group("x") == GroupKey(b"a" * 32).group("x")
    assert len({one.group("x"), other.group("x"), one.group("y"), one.id("A", "x")}) == 4
    assert re.fullmatch("[0-9a-f]{16}", one.group("Ü\udce9"))
    assert one.id("Klasse Ü", "x").startswith("Klasse%20%C3%9C/")
    assert "aaa" not in repr(one)


@pytest.mark.slow
def test_a_mixed_folder(convert, dicom_folder, tmp_path):
    images = shutil.copytree(dicom_folder, tmp_path / "images")
    Image.new("L", (30, 30), 99).save(images / "NORMAL" / f"{NAME}.png")
    done = convert(images, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "out")) == 25
    assert_clean(done, tmp_path / "out")
