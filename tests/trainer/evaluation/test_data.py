import re
from dataclasses import replace

import numpy as np
import pytest

from data_pipeline.dataset import make_dataset
from data_pipeline.options import PipelineOptions
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.evaluation.data import STREAM, DataSet, images_at, predict_split
from trainer.evaluation.evaluate_run import evaluate_run
from trainer.inference import Predictor

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_record_is_predicted_once_beside_its_own_id_group_and_label(trained, split):
    manifest = Manifest.load(trained.data)
    predictor = Predictor(trained.folder / "model.keras")
    found = predict_split(predictor, trained.data, manifest, split)
    one = PipelineOptions(global_batch_size=1, cache="off")
    fields = ("image", "label", "weight", "id", "group", "copy")
    records = list(
        make_dataset(trained.data, manifest, split, one, training=False, fields=fields).as_numpy_iterator()
    )
    assert len(records) == manifest.split(split).records
    assert list(found.ids) == [record["id"][0].decode() for record in records]
    assert list(found.groups) == [record["group"][0].decode() for record in records]
    assert found.labels.tolist() == [int(record["label"][0]) for record in records]
    assert found.class_names == ("NORMAL", "PNEUMONIA")
    alone = np.concatenate([predictor.probabilities(record["image"]) for record in records])
    assert np.array_equal(found.probabilities, alone)
    assert {int(record["copy"][0]) for record in records} == ({0, 1} if split == "train" else {0})


def test_a_mistake_is_shown_with_its_own_image(converted):
    manifest = Manifest.load(converted)
    one = PipelineOptions(global_batch_size=1, cache="off")
    fields = ("image", "copy")
    records = make_dataset(converted, manifest, "train", one, training=False, fields=fields)
    images = [r["image"][0] for r in records.as_numpy_iterator() if r["copy"][0] == 0]
    assert len(images) > 33  # in more than one batch
    positions = np.array([len(images) - 1, 0, 31, 17, 32])
    found = images_at(DataSet(converted, manifest, True, STREAM), "train", positions)
    assert [each.tolist() for each in found] == [images[at].tolist() for at in positions]


def test_other_data_in_the_place_of_the_runs_own_are_not_taken_for_them(rewrite, run, data):
    there = replace(run, config=replace(run.config, data=str(data)))
    rewrite(data, plan="b" * 64)
    for call in (
        lambda: evaluate_run(there, split="test"),
        lambda: DataSet.of(there),  # as for the threshold
    ):
        with pytest.raises(InputError, match=rf"--data={data}: .* another conversion; .*--data=FOLDER"):
            call()


def test_a_split_that_is_not_there_is_refused(run):
    before = (run.folder / "report" / "test" / "report.json").read_bytes()
    with pytest.raises(InputError) as error:
        evaluate_run(run, split="nonsense")
    assert str(error.value).startswith(
        "split 'nonsense' is not in data set 'chest_xray'; it has train, val, test: "
    )
    assert [path.name for path in (run.folder / "report").iterdir()] == ["test"]
    assert (run.folder / "report" / "test" / "report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"class_names": ("CAT", "DOG")}, "has classes CAT, DOG and images of (24, 32, 1)"),
        ({"image_shape": (12, 48, 1)}, "has classes NORMAL, PNEUMONIA and images of (12, 48, 1)"),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused(rewrite, run, data, changes, shown, facts):
    rewrite(data, **changes)
    with pytest.raises(InputError) as error:
        evaluate_run(run, split="test", data=data)
    assert re.search(
        facts(
            f"--data={data}: {shown}; the model of {run.folder} knows NORMAL, PNEUMONIA and (24, 32, 1): "
            f"convert with the same classes, --size and --channels"
        ),
        str(error.value),
    )


def test_the_same_classes_in_another_order_are_refused_with_both(rewrite, run, data):
    rewrite(data, class_names=("PNEUMONIA", "NORMAL"))
    with pytest.raises(InputError) as error:
        evaluate_run(run, split="test", data=data)
    assert "has the classes PNEUMONIA, NORMAL, in this order" in str(error.value)
    assert "knows NORMAL, PNEUMONIA, in this order" in str(error.value)
    assert str(error.value).endswith("convert with the order of the model, --classes=NORMAL,PNEUMONIA")


def test_data_of_another_resize_are_refused(rewrite, run, data, facts):
    rewrite(data, resize="pad")
    with pytest.raises(InputError) as error:
        evaluate_run(run, split="test", data=data)
    said = f"--data={data}: --resize=pad; the model of {run.folder}: --resize=stretch"
    assert re.search(facts(said), str(error.value))


def test_data_that_has_gone_is_named(run, tmp_path):
    config = replace(run.config, data=str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"gone: no such folder; make the data set with"):
        evaluate_run(replace(run, config=config), split="test")


def test_a_flipped_byte_names_the_shard(run, data):
    shard = data / Manifest.load(data).split("test").shards[0].name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=shard.name):
        evaluate_run(run, split="test", data=data)
