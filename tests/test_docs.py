"""Every Python snippet of README.md and docs/ is run, as it stands, over a data set made as the page says."""

import ast
import re
import shutil
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"tfrecords", "data_pipeline", "trainer"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# What must hold when a snippet is through: appended to it, with `train` as the records of the split, read
# by this project. Each opens with what the comment beside the batch in the snippet promises.
CHECKS = {
    "README.md: From Python": """
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
