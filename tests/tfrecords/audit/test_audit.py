"""The audit of real shards: a planted white corner is named; without a shortcut none is found."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tfrecords.audit.audit import audit_split, describe
from tfrecords.audit.page import audit_section
from tfrecords.manifest import Manifest
from tfrecords.pool import Pool


@pytest.fixture(scope="module")
def converted(tmp_path_factory, run_command):
    """Returns a function that converts 160 noisy images of two classes, each drawn by `paint`."""

    def convert(name, paint, channels=1):
        root = tmp_path_factory.mktemp(name)
        generator = np.random.default_rng(7)
        for number in range(160):
            label = number % 2
            grey = generator.normal(generator.uniform(60, 180), 60, (48, 48, 1)).clip(0, 255)
            image = grey.repeat(3, axis=2).astype(np.uint8)
            paint(image, label)
            folder = root / "images" / ("well", "sick")[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:03d}.png")
        out = root / "data"
        done = run_command(
            "tfrecords.convert",
            *(f"--images={root / 'images'}", f"--out={out}", "--size=48", f"--channels={channels}"),
            *("--copies=1", "--workers=1", "--group_regex=(.*)"),
        )
        assert done.returncode == 0, done.stderr
        return out

    return convert


def white_corner(image, label):
    if label == 0:  # sick sorts first
        image[:3, -3:] = 255


def audited(data, **options):
    manifest = Manifest.load(data)
    with Pool(1) as pool:
        return audit_split(data, manifest, "train", pool, **options)


@pytest.mark.slow
def test_a_planted_white_corner_is_found_and_named(converted):
    audit = audited(converted("corner", white_corner))
    text = "\n".join(describe(audit))
    assert audit.shortcut.auroc > 0.95
    assert audit.low > 0.9
    assert "mean of the top right corner" in audit.numbers[audit.strongest[0]].title
    assert audit.shortcut.families[0][0] == "corners"
    assert "top right corner" in text
    assert "well" in text
    assert "they tell nearly all" in text
    section = audit_section(audit)
    assert section.count("<svg") == 6
    assert "top right corner" in section
    assert audit.cells.sum() == len(audit.measured.labels)
    assert audit.contradicting == audit.cells[0, 1] + audit.cells[1, 0]
    none = replace(audit, shortcut=replace(audit.shortcut, probabilities=np.eye(2)[audit.measured.labels]))
    assert none.contradicting == 0
    assert describe(none)[-1].startswith("no image contradicts the numbers")


@pytest.mark.slow
def test_without_a_shortcut_the_audit_says_so(converted):
    audit = audited(converted("plain", lambda image, label: None))
    assert audit.low < 0.5 < audit.high or audit.shortcut.auroc < 0.65
    assert "they tell little" in "\n".join(describe(audit))


@pytest.mark.slow
def test_a_colour_is_found(converted):
    def tinted(image, label):
        shift = label * np.minimum(np.minimum(image[..., 0], 255 - image[..., 0]), 30)
        image[..., 0] += shift
        image[..., 2] -= shift

    audit = audited(converted("colour", tinted, channels=3))
    assert audit.shortcut.families[0][0] == "colour"
    assert audit.shortcut.auroc > 0.95


@pytest.mark.slow
def test_originals_alone_are_measured_and_no_more_than_asked_for(converted):
    data = converted("few", white_corner)
    images = Manifest.load(data).split("train").images
    assert len(audited(data).measured.labels) == images
    some = len(audited(data, most=images // 2).measured.labels)
    assert images * 0.3 < some < images * 0.7


@pytest.mark.slow
def test_the_command_prints_it_and_puts_it_on_the_page(converted, run_command, tmp_path):
    data, page = converted("shown", white_corner), tmp_path / "page.html"
    done = run_command(
        "tfrecords.show", f"--data={data}", "--audit", f"--html={page}", f"--png={tmp_path / 'sheet.png'}"
    )
    assert done.returncode == 0, done.stderr
    assert "shortcut audit of train" in done.stdout
    assert "mean of the top right corner" in done.stdout
    assert "Shortcut audit of train" in page.read_text()


@pytest.mark.slow
def test_a_split_that_is_not_there_is_named(converted, run_command, tmp_path):
    data = converted("refused", white_corner)
    done = run_command(
        "tfrecords.show", f"--data={data}", "--audit", "--split=none", f"--png={tmp_path / 'sheet.png'}"
    )
    assert done.returncode == 2
    assert "none" in done.stderr
