import keras
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.augment import augmenter
from data_pipeline.dataset import epoch_steps, make_dataset
from data_pipeline.options import PipelineOptions, Worker
from tfrecords.errors import InputError

TIERS = pytest.mark.parametrize("cache", ["memory", "disk", "stream"])


def made(
    data, cache="memory", batch=24, *, split="train", training=True, augment="none", keys=False, **request
):
    options = PipelineOptions(batch, cache=cache, shuffle_window=64 << 10, augment=augment, keys=keys)
    return make_dataset(data.directory, data.manifest, split, options, training=training, **request)


def arrays(dataset, steps=None):
    return list((dataset if steps is None else dataset.take(steps)).as_numpy_iterator())


@pytest.mark.slow
@TIERS
@pytest.mark.parametrize("as_supervised", [False, True])
def test_training_is_infinite_and_an_evaluation_has_its_length(data, cache, as_supervised):
    endless = made(data, cache, as_supervised=as_supervised)
    assert int(endless.cardinality()) == tf.data.INFINITE_CARDINALITY
    with pytest.raises(TypeError, match="infinite"):
        len(endless)
    for split, batch in (("train", 32), ("val", 5), ("val", 64)):
        records = data.manifest.split(split).records
        dataset = made(data, cache, batch, split=split, training=False, as_supervised=as_supervised)
        assert len(dataset) == -(-records // batch) == len(arrays(dataset))


@pytest.mark.slow
def test_a_choice_of_copies_says_so_too(data):
    """It streams by another chain."""
    options = PipelineOptions(24, cache="stream", copies="none")
    dataset = make_dataset(data.directory, data.manifest, "train", options, training=True)
    assert int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY


def test_a_workers_part_says_nothing(data):
    """Strategies would read an infinite dataset in another way."""
    dataset = made(data, worker=Worker(0, 1, 2))
    assert int(dataset.cardinality()) == tf.data.UNKNOWN_CARDINALITY


@TIERS
def test_training_gives_the_same_batches_as_tuples(data, cache):
    tuples, dicts = (arrays(made(data, cache, as_supervised=flag, start_step=3), 9) for flag in (True, False))
    for one, other in zip(tuples, dicts, strict=True):
        assert len(one) == 2
        np.testing.assert_array_equal(one[0], other["image"])
        np.testing.assert_array_equal(one[1], other["label"])
    assert made(data, cache, as_supervised=True).element_spec == (
        tf.TensorSpec([24, 32, 40, 1], tf.uint8),
        tf.TensorSpec([24], tf.int32),
    )


@TIERS
@pytest.mark.parametrize("batch", [7, 64])
def test_the_last_evaluation_batch_has_what_is_left(data, cache, batch):
    records = data.records("val")
    found = arrays(made(data, cache, batch, split="val", training=False, as_supervised=True))
    left = len(records) - (len(found) - 1) * batch
    assert [len(label) for _, label in found] == [*[batch] * (len(found) - 1), left]
    np.testing.assert_array_equal(np.concatenate([image for image, _ in found]), [*map(data.pixels, records)])
    assert np.concatenate([label for _, label in found]).tolist() == [record.label for record in records]


def test_with_weights_all_batches_have_one_shape(data):
    names = ("image", "label", "weight")
    dataset = made(data, batch=7, split="val", training=False, as_supervised=True, fields=names)
    padded = arrays(made(data, batch=7, split="val", training=False))
    for one, other in zip(arrays(dataset), padded, strict=True):
        for name, values in zip(names, one, strict=True):
            np.testing.assert_array_equal(values, other[name])
    assert padded[-1]["weight"].min() == 0
    assert [spec.shape[0] for spec in dataset.element_spec] == [7, 7, 7]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (2, 2), (3, 1)])
def test_no_workers_batch_is_empty(data, workers, replicas):
    """So few records are left for the last step that all but the first replica get no batch there."""
    records = [record.label for record in data.records("val")]
    count = workers * replicas
    batch = next(batch for batch in range(count, 99, count) if 0 < len(records) % batch <= batch // count)
    parts = [
        arrays(
            made(
                data,
                batch=batch,
                split="val",
                training=False,
                as_supervised=True,
                fields=("label",),
                worker=Worker(index, workers, replicas),
            )
        )
        for index in range(workers)
    ]
    whole = len(records) // batch * replicas
    assert [len(part) for part in parts] == [whole + 1, *[whole] * (workers - 1)]
    together = [
        label
        for step in range(-(-len(records) // batch))
        for part in parts
        for (labels,) in part[step * replicas : (step + 1) * replicas]
        for label in labels.tolist()
    ]
    assert together == records


@pytest.mark.slow
def test_augmented_images_are_those_of_the_trainer(data):
    tuples = arrays(made(data, augment="standard", as_supervised=True), 8)
    change = augmenter("standard")
    for (image, label), batch in zip(tuples, arrays(made(data, augment="standard"), 8), strict=True):
        np.testing.assert_array_equal(image, change(batch["image"], batch["key"]))
        np.testing.assert_array_equal(label, batch["label"])
        assert (image != batch["image"]).any()


@pytest.mark.slow
@TIERS
def test_keys_come_without_augmentation_too(data, cache):
    augmented, plain = (
        arrays(made(data, cache, **options), 3) for options in ({"augment": "light"}, {"keys": True})
    )
    for one, other in zip(augmented, plain, strict=True):
        assert set(one) == set(other) == {"image", "label", "weight", "key"}
        np.testing.assert_array_equal(one["key"], other["key"])
    tuples = arrays(made(data, cache, keys=True, as_supervised=True), 3)
    for (image, _), batch in zip(tuples, plain, strict=True):
        np.testing.assert_array_equal(image, batch["image"])


def test_the_device_tier_is_refused(data):
    with pytest.raises(InputError, match=r"--cache=device: .* use --cache=memory"):
        made(data, "device", as_supervised=True)


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_a_keras_model_fits_and_counts_each_record_once(data, cache):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 40, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    training = made(data, cache, 24, as_supervised=True)
    evaluation = made(data, cache, 24, split="val", training=False, as_supervised=True)
    steps = epoch_steps(data.manifest, "train", PipelineOptions(24), training=True)
    history = model.fit(
        training, steps_per_epoch=steps, epochs=3, validation_data=evaluation, verbose=0, shuffle=False
    )
    assert int(model.optimizer.iterations) == 3 * steps
    loss, accuracy = model.evaluate(evaluation, verbose=0)

    records = data.records("val")
    assert len(records) % 24
    labels = np.array([record.label for record in records])
    probabilities = model.predict(np.stack([*map(data.pixels, records)]), verbose=0)
    by_hand = np.mean(probabilities.argmax(1) == labels)
    assert accuracy == pytest.approx(by_hand, abs=1e-6)
    assert history.history["val_accuracy"][-1] == pytest.approx(by_hand, abs=1e-6)
    assert loss == pytest.approx(-np.log(probabilities[np.arange(len(labels)), labels]).mean(), rel=1e-4)
    assert len(model.predict(evaluation, verbose=0)) == len(records)
