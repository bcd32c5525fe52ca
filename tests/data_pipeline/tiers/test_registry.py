"""The interface of a tier: what each tier of the registry keeps to, whatever it is."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from data_pipeline.tiers.registry import HELD_TIERS, TIERS, tier_named
from data_pipeline.tiers.tier import HELD, STREAM, Machine, SplitOnMachine
from tfrecords.errors import InputError

EACH_TIER = pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
EACH_HELD_TIER = pytest.mark.parametrize("tier", HELD_TIERS, ids=lambda tier: tier.name)


@EACH_TIER
def test_a_tier_is_found_by_its_name(tier):
    assert tier_named(tier.name) is tier
    assert sum(other.name == tier.name for other in TIERS) == 1
    assert (tier in HELD_TIERS) == (tier.order == HELD) == (tier.order != STREAM)
    with pytest.raises(InputError, match=tier.name):
        tier_named("")


@EACH_TIER
def test_tiers_of_one_order_show_the_same_records_of_an_evaluation(data, tier, tmp_path):
    def labels(name):
        options = PipelineOptions(global_batch_size=16, cache=name, cache_dir=str(tmp_path))
        dataset = make_dataset(data.directory, data.manifest, "val", options, training=False)
        return [batch["label"].numpy().tolist() for batch in dataset]

    assert labels(tier.name) == labels("memory")


@EACH_TIER
def test_only_the_tiers_on_a_device_have_tables_and_ask_for_room(data, tier):
    tables = tier.tables(data.directory, data.manifest, "val", ["CPU:0", "CPU:0"])
    assert (tables is not None) == tier.on_device
    assert len(tables or ()) == 2 * tier.on_device
    tier.require_room("val", 1, Machine(device_free=1))
    if tier.on_device:
        with pytest.raises(InputError, match=f"--cache={tier.name}: split 'val' "):
            tier.require_room("val", 2, Machine(device_free=1))
    else:
        tier.require_room("val", 2, Machine(device_free=1))


@EACH_HELD_TIER
def test_a_tier_holds_the_split_in_the_order_of_its_shards(data, tier, tmp_path):
    fields = ("image", "label", "id")
    columns = tier.load(data.directory, data.manifest, "val", fields, str(tmp_path))
    records = data.records("val")
    assert columns["id"].numpy().tolist() == [record.id for record in records]
    index = [len(records) - 1, 0, 0]
    found = tier.look_up(columns, index)
    assert set(found) == set(fields)
    for row, number in enumerate(index):
        np.testing.assert_array_equal(found["image"][row], data.pixels(records[number]))
        assert found["label"][row] == records[number].label
    location = tier.location(str(tmp_path))
    assert bool(location) == any(tmp_path.iterdir())


@EACH_HELD_TIER
def test_the_room_of_auto_is_no_more_than_that_of_the_name(data, tier, tmp_path):
    split = SplitOnMachine(data.manifest, "val", Machine(2, 1000, gpu=True), 500, str(tmp_path))
    assert 0 < tier.auto_room(split) <= tier.room(split)


def test_the_tiers_are_known_without_tensorflow(run_python, tmp_path):
    modules = "data_pipeline.options, data_pipeline.settings, data_pipeline.tiers.choice"
    done = run_python("-c", f"import sys, {modules}; print('tensorflow' in sys.modules)", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    assert "tensorflow" in sys.modules  # here it is


def test_the_page_lists_the_tiers_in_their_order():
    page = (Path(__file__).parents[3] / "docs" / "performance.md").read_text()
    listed = re.findall(r"^ *\| `(\w+)` \|", page, re.MULTILINE)
    assert listed == [tier.name for tier in TIERS]
