import io
import os
from collections import Counter

import pytest
from PIL import Image

from tfrecords.errors import InputError
from tfrecords.sources.class_folders import list_images


def one_pixel(kind):
    buffer = io.BytesIO()
    Image.new("L", (1, 1), 9).save(buffer, kind)
    return buffer.getvalue()


PNG, JPEG = one_pixel("PNG"), one_pixel("JPEG")
PAIR = ("A/1.png", "B/1.png")
RULE = "allowed are JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF, HEIC, JPEG 2000, DICOM"


def refusal(root, *arguments):
    with pytest.raises(InputError) as caught:
        list_images(root, *arguments)
    return str(caught.value)


def test_class_folders(plant):
    listing = list_images(plant("B/b.png", "A/z.png", "A/sub/deep/a.png", "A/Z.png", "B/10.png", "B/9.png"))
    assert listing.class_names == ("A", "B")
    found = [(s.path, s.label, s.split, s.size) for s in listing.sources]
    assert found == [
        ("A/Z.png", 0, None, len(PNG)),
        ("A/sub/deep/a.png", 0, None, len(PNG)),
        ("A/z.png", 0, None, len(PNG)),
        ("B/10.png", 1, None, len(PNG)),
        ("B/9.png", 1, None, len(PNG)),
        ("B/b.png", 1, None, len(PNG)),
    ]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train",), ["train"]),
        (("test", "train"), ["train", "test"]),
        (("test", "train", "val"), ["train", "val", "test"]),
        (("Test", "TRAIN", "Validation"), ["train", "val", "test"]),
        (("train", "valid"), ["train", "val"]),
    ],
)
def test_split_folders(plant, folders, splits):
    root = plant(*(f"{folder}/{name}" for folder in folders for name in PAIR))
    listing = list_images(root)
    assert listing.class_names == ("A", "B")
    assert [(s.split, s.label) for s in listing.sources] == [(split, c) for split in splits for c in (0, 1)]
    folder_of = {folder.lower()[:3]: folder for folder in folders}
    assert [s.path for s in listing.sources] == [
        f"{folder_of[split[:3]]}/{name}" for split in splits for name in PAIR
    ]


def test_the_content_tells_an_image_not_its_extension(plant):
    kinds = {"B/3.jpeg": one_pixel("BMP"), "B/4.png": one_pixel("TIFF"), "B/5.gif": one_pixel("WEBP")}
    root = plant(files={"A/1.txt": PNG, "A/2": JPEG, **kinds})
    assert len(list_images(root).sources) == 5


def test_clutter_is_passed_over(plant):
    root = plant(
        *PAIR,
        files={
            ".DS_Store": b"x",
            "A/.DS_Store": b"x",
            "A/._1.png": b"",
            "B/Thumbs.db": b"x",
            "B/desktop.ini": b"",
            "__MACOSX/A/._1.png": b"",
            ".git/HEAD": b"",
            "README.md": b"words",
        },
    )
    assert [s.path for s in list_images(root).sources] == list(PAIR)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("A/plain-name_1.png", "A/plain-name_1.png"),
        ("A/with space (2).png", "A/with space (2).png"),
        ("A/Röntgen.png", "A/R%C3%B6ntgen.png"),
        ("A/胸部.png", "A/%E8%83%B8%E9%83%A8.png"),
        ("A/new\nline.png", "A/new%0Aline.png"),
        ("A/100%.png", "A/100%25.png"),
        ('A/quo"te\\.png', "A/quo%22te%5C.png"),
        (b"A/latin\xe9.png", "A/latin%E9.png"),
    ],
)
def test_an_id_is_printable_ascii(plant, name, printed):
    source = list_images(plant(name, "B/1.png")).sources[0]
    assert source.id == printed
    assert source.id.isascii()
    assert source.id.isprintable()


def test_ids_are_distinct(plant):
    names = ["A/a b.png", "A/a%20b.png", "A/é.png", "A/%C3%A9.png", b"A/\xe9.png", "A/%E9.png", "B/1.png"]
    assert len({source.id for source in list_images(plant(*names)).sources}) == len(names)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("person1_bacteria_2.jpeg", "person1_bacteria"),
        ("person1_virus_6.jpeg", "person1_virus"),
        ("person12_virus_6.jpeg", "person12_virus"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0115-0001-0002.jpeg", "IM-0115"),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-0115"),
        ("NORMAL2-IM-0115-0001-0002.jpeg", "NORMAL2-IM-0115"),
        ("site3/IM-0115-0001.jpeg", "IM-0115"),
        ("holiday.jpeg", "A/holiday.jpeg"),
        ("person1.jpeg", "A/person1.jpeg"),
        ("IM-0115.jpeg", "A/IM-0115.jpeg"),
        ("myperson1_virus_6.jpeg", "A/myperson1_virus_6.jpeg"),
        ("IM-0115-0001/scan.jpeg", "A/IM-0115-0001/scan.jpeg"),
    ],
)
def test_default_groups(plant, name, group):
    assert list_images(plant(f"A/{name}", "B/1.png")).sources[0].group == group


@pytest.mark.parametrize(
    ("expression", "group"),
    [
        (r"^([^_]+)_", "p7"),
        (r"p\d+", "p7"),
        (r"^(?:x(\d+)|(p\d+))", "p7"),
        (r"_([a-z]+)\.png$", "left"),
    ],
)
def test_groups_by_an_expression(plant, expression, group):
    listing = list_images(plant("A/p7_left.png", "B/p7_left.png"), expression)
    assert [source.group for source in listing.sources] == [group, group]


def test_groups_that_look_the_same_are_one(plant):
    names = ["Jos\u00e9_1", "Jose\u0301_2", "p3_1", "p3 _2", "p3\u00a0_3"]
    listing = list_images(plant(*(f"A/{name}.png" for name in names), "B/x_1.png"), r"^([^_]+)_")
    found = Counter(source.group for source in listing.sources)
    assert found == {"Jos\u00e9": 2, "p3": 3, "x": 1}
    assert listing.notes == ("Group names with stray spaces or in another Unicode form, normalized: 3",)


def test_an_expression_that_misses_images(plant):
    root = plant("A/p7_1.png", "A/odd.png", "B/p8_1.png", "B/other.png")
    assert refusal(root, r"^(p\d+)_") == (
        "--group_regex='^(p\\\\d+)_' does not match 2 of 4 images, first A/odd.png; it must match every "
        "path below its class folder (or leave the flag out)"
    )


def test_an_expression_that_is_none(plant):
    assert refusal(plant(*PAIR), "(p") == (
        "--group_regex='(p' is not a regular expression: missing ), unterminated subpattern at position 0"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "{root}: found 0 class folders (-); classification needs two or more, one folder for each class "
             "with its images inside"),
        (["A/1.png", "A/2.png"], "{root}: found 1 class folder (A); classification needs two or more, one "
                                 "folder for each class with its images inside"),
        (["train/A/1.png"], "{root}: found 1 class folder (A); classification needs two or more, one folder "
                            "for each class with its images inside"),
        (["A/1.png", "B/1.png", "C/.DS_Store"],
         "{root}/C: class folder without images; fill it or remove it"),
        (["A/1.png", "B/1.png", "3.png"],
         "{root}/3.png: an image outside the class folders; put it into the folder of its class"),
        (["train/A/1.png", "train/B/1.png", "train/3.png"],
         "{root}/train/3.png: an image outside the class folders; put it into the folder of its class"),
        (["test/A/1.png", "test/B/1.png", "val/A/1.png", "val/B/1.png"],
         "{root}: has test, val but no train folder"),
        (["train/A/1.png", "train/B/1.png", "test/A/1.png"],
         "{root}: split 'test' has no folder for class B; every split needs the same class folders (A, B)"),
        (["train/A/1.png", "train/B/1.png", "val/.DS_Store"],
         "{root}: split 'val' has no folder for class A, B; every split needs the same class folders (A, B)"),
        (["train/A/1.png", "train/B/1.png", "extra/1.png"],
         "{root}: has split folders (train) and other folders beside them (extra); use either class folders, "
         "or class folders inside train, val and test; if all of these are classes, name all of them: "
         "--classes=extra,train"),
        (["train/A/1.png", "train/B/1.png", "val/A/1.png", "validation/A/1.png"],
         "{root}: two folders for one split: train, val, validation"),
        (["A/1.png", "B\nC/1.png"],
         "{root}: class folder 'B\\nC' must have a printable name; rename it"),
        (["A/1.png", b"B\xe9/1.png"],
         "{root}: class folder 'B\\udce9' must have a printable name; rename it"),
    ],
)  # fmt: skip
def test_layouts_that_cannot_be(plant, names, message):
    root = plant(*names)
    assert refusal(root) == message.format(root=root)


def test_a_root_that_is_no_folder(plant, tmp_path):
    root = plant(*PAIR)
    assert refusal(tmp_path / "none") == f"--images={tmp_path}/none: no such folder"
    assert refusal(root / "A/1.png") == f"--images={root}/A/1.png: is not a folder"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"hello, world", f"text, not an image: it starts with b'hello, w'; {RULE}"),
        (b"GIF89a....", "cannot be decoded: its header is damaged"),
        (one_pixel("ICO"), f"an icon (ICO) or cursor (CUR) file; export it as PNG; {RULE}"),
        (b"%PDF-1.7", f"a PDF file; export its pages as PNG; {RULE}"),
        (b"PK\x03\x04....", f"a ZIP file; unpack it and give the folder of its images; {RULE}"),
    ],
)
def test_a_file_that_is_no_image(plant, data, reason):
    root = plant(*PAIR, files={"B/odd.png": data})
    assert refusal(root) == (
        f"{root}: 1 of 3 files in class folders cannot be used:\n  B/odd.png: {reason}\n"
        f"Repair, convert or remove them, or leave them out with --max_rejects, then run the same command "
        f"again."
    )


def test_all_problems_are_counted_and_ten_shown(plant):
    root = plant(*PAIR, files={f"B/x{i:02d}": b"" for i in range(12)})
    message = refusal(root)
    assert message.startswith(f"{root}: 12 of 14 files in class folders cannot be used:\n  B/x00: ")
    assert message.count("the file is empty") == 10
    assert "\n  B/x09: the file is empty (0 bytes)\n  ... and 2 more\n" in message


def test_links_are_followed(plant, tmp_path):
    root = plant("A/1.png", "B/1.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").write_bytes(PNG + b"longer")
    (root / "B/linked").symlink_to(tmp_path / "elsewhere")
    (root / "A/3.png").symlink_to(tmp_path / "elsewhere/2.png")
    found = [(s.path, s.size) for s in list_images(root).sources]
    assert found == [
        ("A/1.png", len(PNG)),
        ("A/3.png", len(PNG) + 6),
        ("B/1.png", len(PNG)),
        ("B/linked/2.png", len(PNG) + 6),
    ]


def test_a_link_to_a_folder_above(plant):
    root = plant(*PAIR, "B/sub/1.png")
    (root / "B/sub/up").symlink_to(root / "B")
    assert refusal(root) == f"{root}/B/sub/up: a symbolic link to a folder above it; remove the link"


@pytest.mark.parametrize(
    ("target", "reason"),
    [("link", "Too many levels of symbolic links"), ("nowhere", "No such file or directory")],
)
def test_a_link_that_leads_nowhere(plant, target, reason):
    root = plant(*PAIR)
    (root / "A/link").symlink_to(target)
    assert f"1 of 3 files in class folders cannot be used:\n  A/link: {reason}\n" in refusal(root)


def test_a_class_folder_that_is_a_broken_link(plant):
    root = plant(*PAIR)
    (root / "C").symlink_to("unmounted")
    assert refusal(root) == f"{root}/C: a symbolic link that leads nowhere; repair or remove it"


def test_what_is_neither_file_nor_folder(plant):
    root = plant(*PAIR)
    os.mkfifo(root / "A/pipe")  # opening it would wait for ever
    assert refusal(root) == (
        f"{root}: 1 of 3 files in class folders cannot be used:\n  A/pipe: neither a file nor a folder\n"
        f"Repair, convert or remove them, or leave them out with --max_rejects, then run the same command "
        f"again."
    )


@pytest.mark.parametrize(
    ("locked", "message"),
    [
        ("images", "images: cannot be read: Permission denied\n"),
        ("images/B", "images/B: cannot be read: Permission denied\n"),
        (
            "images/B/1.png",
            "images: 1 of 2 files in class folders cannot be used:\n  B/1.png: Permission denied\n"
            "Repair, convert or remove them, or leave them out with --max_rejects, then run the same command "
            "again.\n",
        ),
    ],
)
def test_what_may_not_be_read(plant, tmp_path, locked, message, run_python):
    plant(*PAIR)
    tmp_path.chmod(0o755)
    (tmp_path / locked).chmod(0)
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from tfrecords.errors import InputError\n"
        "from tfrecords.sources.class_folders import list_images\n"
        "if os.geteuid() == 0:\n"  # root may read all: work on as nobody
        "    os.setuid(65534)\n"
        "try:\n"
        "    list_images(Path('images'))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = run_python("-c", script, cwd=tmp_path)
    (tmp_path / locked).chmod(0o755)
    assert (done.stdout, done.stderr) == (message, "")
