import json
import re
import shutil

import pytest

from data_pipeline.options import PipelineOptions
from data_pipeline.settings import TUNED, in_words, load_settings, save_settings
from tfrecords.convert.conversion import convert_images
from tfrecords.convert.options import ConvertOptions
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from tfrecords.verification.data_set import verify

SETTINGS = {"cache": "disk", "prefetch": 8, "threads": 2}


def test_what_was_saved_is_loaded(harmed):
    assert load_settings(harmed.directory, harmed.manifest) == {}
    path = save_settings(harmed.directory, harmed.manifest, SETTINGS, {"gain": 1.5})
    assert path == harmed.directory / "pipeline.json"
    assert load_settings(harmed.directory, harmed.manifest) == SETTINGS
    assert json.loads(path.read_bytes()) == {
        "plan": harmed.manifest.plan, "options": SETTINGS, "found": {"gain": 1.5}
    }  # fmt: skip


def test_off_is_the_former_name_of_stream(harmed):
    save_settings(harmed.directory, harmed.manifest, {"cache": "off", "prefetch": 8}, {})
    assert load_settings(harmed.directory, harmed.manifest) == {"cache": "stream", "prefetch": 8}


def test_every_tuned_name_is_an_option():
    assert set(TUNED) <= set(PipelineOptions.__dataclass_fields__)


def test_in_words():
    assert in_words(SETTINGS) == "--cache=disk --prefetch=8 --threads=2"
    assert in_words({}) == "the defaults"


def test_an_option_of_another_version_is_named_with_what_to_do(harmed, facts):
    path = save_settings(harmed.directory, harmed.manifest, {"parse_batch": 32}, {})
    with pytest.raises(InputError) as raised:
        load_settings(harmed.directory, harmed.manifest)
    assert re.search(
        facts(
            f"{path}: has the option 'parse_batch', allowed are cache, prefetch, parallel_reads, threads; "
            f"remove it, or write it again with\n  python -m data_pipeline.tune --data={harmed.directory}"
        ),
        str(raised.value),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b'{"plan": "', "is damaged"),
        (b"[]", "is damaged"),
        (b'{"options": {}}', "is damaged"),
        (b'{"plan": "PLAN", "options": 3}', "is damaged"),
        (b'{"plan": "other", "options": {}}', "belongs to another conversion than the manifest"),
        (b'{"plan": "PLAN", "options": {"seed": 1}}', "has the option 'seed', allowed are cache, prefetch, "),
        (b'{"plan": "PLAN", "options": {"threads": "2"}}', "threads is '2', must be a whole number"),
        (b'{"plan": "PLAN", "options": {"threads": true}}', "threads is True, must be a whole number"),
        (b'{"plan": "PLAN", "options": {"cache": 1}}', "cache is 1, must be text"),
        (b'{"plan": "PLAN", "options": {"cache": "fast"}}', "--cache=fast: must be one of auto, "),
        (b'{"plan": "PLAN", "options": {"threads": -2}}', "--threads=-2: must be 0 or more"),
    ],
)
def test_a_damaged_file_is_named(harmed, content, message):
    path = harmed.directory / "pipeline.json"
    path.write_bytes(content.replace(b"PLAN", harmed.manifest.plan.encode()))
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}: {message}')}"):
        load_settings(harmed.directory, harmed.manifest)


def test_a_folder_in_its_place(harmed):
    (harmed.directory / "pipeline.json").mkdir()
    with pytest.raises(InputError, match=r"pipeline\.json: cannot be read: Is a directory; remove it, or "):
        load_settings(harmed.directory, harmed.manifest)


def test_verify_passes_it_over_and_a_conversion_replaces_it(harmed, image_folder):
    save_settings(harmed.directory, harmed.manifest, SETTINGS, {})
    assert verify(harmed.directory, quick=True) == []
    other = ConvertOptions(image_folder, harmed.directory, size=(16, 16), copies=0, workers=1)
    with pytest.raises(InputError, match="replace it with --overwrite"):
        convert_images(other)
    assert (harmed.directory / "pipeline.json").exists()
    convert_images(ConvertOptions(**{**vars(other), "overwrite": True}))
    assert not (harmed.directory / "pipeline.json").exists()
    assert load_settings(harmed.directory, Manifest.load(harmed.directory)) == {}


def test_a_data_set_that_was_copied_keeps_it(harmed, tmp_path):
    save_settings(harmed.directory, harmed.manifest, SETTINGS, {})
    copied = shutil.copytree(harmed.directory, tmp_path / "elsewhere")
    assert load_settings(copied, Manifest.load(copied)) == SETTINGS
