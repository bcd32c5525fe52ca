"""README.md and docs/: snippets run as they stand; flags, links and the tests of tables exist."""

import ast
import re
import shutil
from collections import Counter
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"tfrecords", "data_pipeline", "trainer"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# What must hold when a snippet is through: appended to it, with `train` as the records of the split, read
# by this project. Each opens with what the comment beside the batch in the snippet promises.
CHECKS = {
    "docs/training.md: Your own callbacks": "told(None).on_epoch_end(0, {'val_loss': 0.5})",
    "docs/reading.md: This project's own pipeline": """
image, label, weight = (batch[name] for name in ("image", "label", "weight"))
assert (image.shape, image.dtype.name) == ((32, 180, 180, 1), "uint8")
assert (label.shape, label.dtype.name) == ((32,), "int32")
assert (weight.shape, weight.dtype.name) == ((32,), "float32")
assert set(zip(map(bytes, map(np.ravel, image.numpy())), label.numpy().tolist())) <= set(train)
""",
    "docs/reading.md: tf.data": """
assert (images.shape, images.dtype.name) == ((32, 180, 180, 1), "uint8")
assert (labels.shape, labels.dtype.name) == ((32,), "int64")
assert Counter(pairs(dataset.as_numpy_iterator())) == train
""",
    "docs/reading.md: A Keras model of your own": """
assert (images.shape, images.dtype.name) == ((32, 180, 180, 1), "uint8")
assert (labels.shape, labels.dtype.name) == ((32,), "int32")
assert set(pairs([(images, labels)])) <= set(train)
assert sum(len(found) for found, _ in validation) == manifest.split("val").records
assert len(model.history.history["val_accuracy"]) == 2
""",
    "docs/reading.md: TensorFlow Datasets": """
assert (images.shape, images.dtype.name) == ((32, 180, 180, 1), "uint8")
assert (labels.shape, labels.dtype.name) == ((32,), "int64")
assert Counter(pairs(dataset.as_numpy_iterator())) == train
assert class_names == ["NORMAL", "PNEUMONIA"]
assert sum(1 for _ in originals) == sum(train.values()) // 2
""",
    "docs/reading.md: PyTorch": """
assert (tuple(images.shape), str(images.dtype)) == ((32, 180, 180, 1), "torch.uint8")
assert (tuple(labels.shape), str(labels.dtype)) == ((32,), "torch.int64")
assert Counter(pairs((i.numpy(), l.numpy()) for i, l in loader)) == train
""",
    "docs/reading.md: NVIDIA DALI": """
batches = [(images.as_array(), labels.as_array())]
assert (batches[0][0].shape, batches[0][0].dtype.name) == ((32, 180, 180, 1), "uint8")
assert (batches[0][1].shape, batches[0][1].dtype.name) == ((32, 1), "int64")
assert pipeline.epoch_size("reader") == sum(train.values())
while sum(map(len, (found for found, _ in batches))) < sum(train.values()):
    batches.append([found.as_array() for found in pipeline.run()])
found = list(pairs(batches))[: sum(train.values())]
assert Counter(found) == train
""",
}

# The records of the split as the project itself reads them, {(image bytes, label): how often}.
EXPECTED = """
from collections import Counter
from pathlib import Path
import numpy as np
from tfrecords.example import decode
from tfrecords.manifest import Manifest
from tfrecords.records import read_records
def pairs(batches):
    for images, labels in batches:
        for image, label in zip(images, labels, strict=True):
            yield np.asarray(image).tobytes(), int(np.asarray(label).item())
folder = Path("data/chest_xray")
shards = Manifest.load(folder).split("train").shards
records = [decode(data) for shard in shards for data in read_records(folder / shard.name)]
train = Counter((record.image, record.label) for record in records)
"""

# Which rows of the tables of docs/images.md each test exercises: {first heading of the table: {test: rows}}.
POLICIES = {
    "image": {
        "test_the_content_tells_an_image_not_its_extension": ("kind",),
        "test_a_kind_is_told_by_its_first_bytes": ("other kinds",),
        "test_a_jpegs_own_luma_is_taken": ("grayscale from colour",),
        "test_pixels_by_the_kind_of_image": (
            "RGB from grayscale",
            "palette",
            "1, 2 and 4 bits",
            "9 to 16-bit grayscale",
            "12-bit grayscale",
            "16-bit grayscale",
            "white is zero",
            "alpha",
        ),
        "test_an_interlaced_png_is_as_any_other": ("interlaced PNG",),
        "test_a_progressive_jpeg_is_as_any_other": ("progressive JPEG",),
        "test_a_large_jpeg_is_nearly_its_full_decoding": ("large JPEG",),
        "test_what_libjpeg_calls_damaged_is_refused": ("damaged JPEG",),
        "test_jpeg_pixels": ("CMYK",),
        "test_the_value_range": ("`--value_range`",),
        "test_colour_of_16_bits_is_told_and_refused_with_a_range": ("16 bits, more channels",),
        "test_numbers_whose_range_is_not_known_are_refused": ("other numbers",),
        "test_jpeg_2000_numbers_whose_range_is_not_known_are_refused": ("JPEG 2000 numbers",),
        "test_a_bmp_whose_alpha_is_0_everywhere_is_opaque": ("BMP without alpha",),
        "test_exif_orientation_is_applied": ("EXIF orientation",),
        "test_large_text_is_passed_over": ("large text in a PNG",),
        "test_animations_are_refused": ("animation",),
        "test_the_first_picture_of_an_mpo_is_the_one": ("several pictures",),
        "test_the_page_that_is_no_thumbnail_and_no_mask": ("TIFF pages",),
        "test_a_cameras_raw_file_is_called_so": ("camera RAW",),
        "test_what_is_not_read_is_called_by_its_name": ("any other file",),
        "test_pixels": ("DICOM",),
        "test_other_huge_images_are_refused_from_their_headers": ("more than `MAX_PIXELS`",),
    },
    "`--resize`": {
        "test_stretch_takes_each_side_by_itself": ("stretch",),
        "test_pad_shows_all_of_it_between_black_bars": ("pad",),
        "test_crop_shows_the_middle": ("crop",),
    },
    "what": {
        "test_files_without_a_preamble_are_read": ("told by", "no transfer syntax"),
        "test_what_is_missing_has_the_standards_default": ("no number", "no bits"),
        "test_what_is_refused": ("else missing", "other numbers", "Rows x Columns", "burned in"),
        "test_pixels": ("photometric", "stored values", "rescale", "window"),
        "test_colours": ("colours",),
        "test_a_jpeg_tells_its_own_colours": ("colours in a JPEG",),
        "test_a_palette": ("palette",),
        "test_lookup_tables": ("VOI LUT",),
        "test_without_a_window_the_1st_to_the_99th_percentile_are_shown": ("neither",),
        "test_functional_groups_of_one_frame": ("functional groups",),
        "test_frames_that_no_number_tells": ("several frames",),
        "test_every_transfer_syntax_gives_the_same_pixels": ("compression",),
        "test_what_is_no_image_is_called_what_it_is": ("no image",),
        "test_padding_behind_the_pixels": ("length of pixels",),
        "test_overlays_the_aspect_ratio_and_the_presentation_are_not_applied": ("not applied",),
    },
}


class Block(NamedTuple):
    """A fenced block: page and heading above it, its language, its text."""

    place: str
    language: str
    text: str


def blocks_of(page):
    heading = fence = None
    text = []
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            if fence is not None:
                place = f"{page.relative_to(ROOT).as_posix()}: {heading}"
                yield Block(place, fence, "\n".join(text) + "\n")
            fence, text = (line[3:].strip(), []) if fence is None else (None, [])
        elif fence is not None:
            text.append(line)
        elif line.startswith("#"):
            heading = line.strip("# ")


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SNIPPETS = {block.place: block.text for block in BLOCKS if block.language == "python"}


def missing(snippet):
    """Returns a module that a snippet imports and that is not installed, or None; imports none of them."""
    for node in ast.walk(ast.parse(snippet)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            root, _, rest = name.partition(".")
            spec = None if root in OURS else find_spec(root)
            if spec and rest and spec.origin is None:  # a name that packages share, as nvidia
                spec = find_spec(f"{root}.{rest.split('.')[0]}")
            if spec is None and root not in OURS:
                return name
    return None


@pytest.fixture(scope="module")
def folder(image_folder, tmp_path_factory, run_command):
    """A folder with the images and with what the page's own command makes of them."""
    place = tmp_path_factory.mktemp("docs")
    shutil.copytree(image_folder, place / "chest_xray")
    page = "docs/reading.md: Reading a data set with other tools"
    (shell,) = (block.text for block in BLOCKS if (block.place, block.language) == (page, "sh"))
    command = shell.split()
    assert command[:3] == ["python", "-m", "tfrecords.convert"]
    done = run_command(*command[2:], "--shard_size=512KB", cwd=place)  # several shards
    assert done.returncode == 0, done.stderr
    return place


def test_each_snippet_has_its_check():
    python = [block.place for block in BLOCKS if block.language == "python"]
    assert Counter(python) == Counter(CHECKS.keys())


@pytest.mark.slow
@pytest.mark.parametrize("place", SNIPPETS)
def test_a_snippet_runs_and_reads_what_is_there(folder, place, run_python):
    if name := missing(SNIPPETS[place]):
        pytest.skip(f"{name} is not installed, which this snippet needs")
    script = "\n".join((SNIPPETS[place], EXPECTED, CHECKS[place], 'print("checked")'))
    done = run_python("-c", script, cwd=folder)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["checked"]), done.stderr


@pytest.mark.slow
def test_the_flags_that_the_pages_name_exist(run_command):
    """So that a page does not outlive a flag."""
    named = {
        (command, flag)
        for block in BLOCKS
        if block.language == "sh"
        for line in block.text.replace("\\\n", " ").splitlines()
        for command, flags in re.findall(  # a launcher has a command behind it, with flags of its own
            r"python -m ((?:tfrecords|trainer|data_pipeline|launch)\.\w+)(.*?)(?=python -m|$)", line
        )
        for flag in re.findall(r" --(\w+)", flags)
    }
    assert {command for command, _ in named} >= {"tfrecords.convert"}
    for command in sorted({command for command, _ in named}):
        text = run_command(command, "--help").stdout
        for flag in sorted(flag for of, flag in named if of == command):
            assert re.search(rf"^ +--(\[no\])?{flag}: ", text, re.MULTILINE), (command, flag)


def tables(text):
    """Returns the tables of a page or docstring, {first heading: [cells of a row, ...]}, without headings."""
    found, rows = {}, None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.strip().startswith("|"):
            rows = None
        elif rows is None:
            rows = found.setdefault(cells[0], [])
        elif set(cells[0]) != {"-"}:
            rows.append(cells)
    return found


def test_the_tables_on_images_are_those_of_the_modules():
    modules = (ROOT / "tfrecords" / "images" / f"{name}.py" for name in ("decode", "dicom"))
    in_code = [tables(ast.get_docstring(ast.parse(module.read_text()))) for module in modules]
    assert tables((ROOT / "docs" / "images.md").read_text()) == in_code[0] | in_code[1]


def test_each_row_on_images_has_its_test():
    page = tables((ROOT / "docs" / "images.md").read_text())
    rows = {heading: [cells[0] for cells in table] for heading, table in page.items()}
    assert {heading: sorted(chain(*tests.values())) for heading, tests in POLICIES.items()} == {
        heading: sorted(names) for heading, names in rows.items()
    }
    there = {
        node.name
        for path in (ROOT / "tests" / "tfrecords").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert set(chain(*POLICIES.values())) <= there


def test_the_readme_fits_on_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "BUILD.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_what_a_page_points_to_is_there(page):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    names = re.findall(r"(?<![\w/.-])(?:docs/\w+\.md|(?:README|BUILD|CONTRIBUTING|CHANGELOG)\.md)", text)
    names += re.findall(r"(?<![\w/.-])(?:tests|benchmarks)/[a-z\d_/]+\.py", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing + [name for name in names if not (ROOT / name).exists()] == []


def test_each_fragment_says_its_kind():
    for path in sorted((ROOT / "changelog.d").iterdir()):
        assert re.fullmatch(r"[a-z0-9_]+\.(added|changed|fixed|removed)\.md", path.name), path.name
        assert path.read_text().strip()
