"""What `input.py` compares: our pipeline, its peers and the limit, each at its best setting.

A contender is made from a `Source` and gives a `Take`: a function that takes some batches and returns
the images in them. Each shuffles, goes on from epoch to epoch and only hands its batches over; what
comes from tf.data is taken inside one `tf.function`, as a training loop does, all else in a Python
loop. Settings were tried on 2 cores, the fastest is here; what else was tried is said beside it. How
many threads or workers are best depends on the machine and the batch: these peers take the number, and
`SETTINGS` has those that are tried.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from input_copies import SIZE, Source

from tfrecords.interop.index import index_name
from tfrecords.manifest import Manifest

Take = Callable[[int], int]  # batches -> images in them


def _array(source: Source) -> Any:
    """Returns as many images of the same shape as there are, uint8 [N, H, W, C]; a copy costs the same."""
    manifest = Manifest.load(source.raw)
    shape = (manifest.split("train").records, *manifest.image_shape)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def in_graph(dataset: Any, image: Callable[[Any], Any]) -> Take:
    """Takes batches of a tf.data dataset inside one `tf.function`.

    One pixel of each is used: TensorFlow would leave out a gather of which nothing is.
    """
    import tensorflow as tf

    @tf.function
    def take(batches: Any, count: Any) -> tuple[Any, Any]:
        images, pixel = 0, 0.0
        for _ in tf.range(count):
            found = image(next(batches))
            images += tf.shape(found)[0]
            pixel = tf.cast(found[0, 0, 0, 0], tf.float32)
        return images, pixel

    batches = iter(dataset)
    return lambda count: int(take(batches, tf.constant(count))[0])


def _in_python(epoch: Iterable[Any], image: Callable[[Any], Any]) -> Take:
    """Takes batches of an iterable that gives one epoch each time it is iterated."""

    def forever() -> Iterator[Any]:
        while True:
            yield from epoch

    batches = forever()
    return lambda count: sum(len(image(batch)) for batch in islice(batches, count))


def limit(source: Source) -> Take:
    """The memory: rows of one array into one batch that is made once, one thread."""
    images = _array(source)
    batch = np.empty((source.batch, *images.shape[1:]), np.uint8)
    random = np.random.default_rng(0)

    def indices() -> Iterator[Any]:
        while True:
            order = random.permutation(len(images))
            for first in range(0, len(order) - source.batch + 1, source.batch):
                yield order[first : first + source.batch]

    endless = indices()

    def take(count: int) -> int:
        for index in islice(endless, count):
            np.take(images, index, axis=0, out=batch, mode="clip")  # "raise" would fill a buffer first
        return count * source.batch

    return take


def ours(source: Source, *, cache: str, encoding: str) -> Take:
    """Our pipeline with its default options, from one tier and encoding.

    From "device" the host sends indices; the CPU looks them up here, as a train step does.
    """
    from data_pipeline.tiers.device_tables import look_up
    from data_pipeline.tiers.registry import tier_named

    data = source.data / encoding
    tables = tier_named(cache).tables(data, Manifest.load(data), "train", ["CPU:0"])
    table = tables[0] if tables else None

    def image(batch: dict[str, Any]) -> Any:
        return look_up(batch, table)["image"]

    return in_graph(our_dataset(source, cache=cache, encoding=encoding), image)


def our_dataset(source: Source, *, cache: str, encoding: str) -> Any:
    """Returns the endless training batches of one tier and encoding."""
    from data_pipeline.dataset import make_dataset
    from data_pipeline.options import PipelineOptions

    data = source.data / encoding
    options = PipelineOptions(
        global_batch_size=source.batch, cache=cache, cache_dir=str(source.data / "decoded")
    )
    return make_dataset(data, Manifest.load(data), "train", options, training=True)


def notebook(source: Source, *, cached: str = "") -> Take:
    """`image_dataset_from_directory` as the notebook calls it, which prefetches by itself.

    Cached "records" keeps the decoded images and shuffles them each epoch, as ours does; cached
    "batches" is what TensorFlow's tutorial does: it hands out the same batches in each epoch, in
    another order, and copies nothing.
    """
    import keras
    import tensorflow as tf

    dataset = keras.utils.image_dataset_from_directory(
        source.images,
        color_mode="grayscale",
        image_size=SIZE,
        batch_size=None if cached == "records" else source.batch,
        seed=0,
        verbose=False,
    )
    if cached:
        dataset = dataset.cache().shuffle(len(dataset))
    if cached == "records":
        dataset = dataset.batch(source.batch, num_parallel_calls=tf.data.AUTOTUNE)
    if cached:
        dataset = dataset.prefetch(tf.data.AUTOTUNE)
    return in_graph(dataset.repeat(), lambda batch: batch[0])


def tensorflow_datasets(source: Source, *, cached: bool = False) -> Take:
    """TensorFlow Datasets, on our shards.

    Cached: its performance guide's order, cache before shuffle and batch.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    read = tfds.ReadConfig(try_autocache=False, enable_ordering_guard=False)
    dataset = tfds.builder_from_directory(str(source.raw)).as_dataset(
        split="train", shuffle_files=True, read_config=read
    )
    dataset = dataset.map(lambda record: {"image": record["image"], "label": record["label"]})
    if cached:
        dataset = dataset.cache()
    dataset = dataset.shuffle(1000).repeat().batch(source.batch, num_parallel_calls=tf.data.AUTOTUNE)
    return in_graph(dataset.prefetch(tf.data.AUTOTUNE), lambda batch: batch["image"])


def _of_workers(workers: int) -> dict[str, Any]:
    """Returns a DataLoader's options; without workers it refuses what is meant for them."""
    ahead = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    return {"num_workers": workers, **ahead}


def torch_files(source: Source, *, workers: int) -> Take:
    """PyTorch's DataLoader over the files: Pillow decodes and resizes."""
    import torch
    from PIL import Image

    names = sorted(path.name for path in source.images.iterdir() if path.is_dir())
    files = sorted(path for path in source.images.rglob("*.jp*g") if path.is_file())

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            with Image.open(files[index]) as image:
                pixels = np.array(image.convert("L").resize(SIZE, Image.Resampling.BILINEAR))
            return torch.from_numpy(pixels)[..., None], names.index(files[index].parent.name)

    loader = torch.utils.data.DataLoader(
        Files(), source.batch, shuffle=True, drop_last=True, **_of_workers(workers)
    )
    return _in_python(loader, lambda batch: batch[0])


def torch_array(source: Source) -> Take:
    """PyTorch's DataLoader over an array in memory, a whole batch by one index tensor.

    `index_select` on one thread: five times as fast as `images[index]`, and as two threads; workers
    would have to hand each batch over.
    """
    import torch

    torch.set_num_threads(1)
    images = torch.from_numpy(_array(source))
    labels = torch.randint(0, 2, [len(images)])

    class Array(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: Any) -> tuple[Any, Any]:
            return images.index_select(0, index), labels.index_select(0, index)

    class Batches(torch.utils.data.Sampler):
        def __len__(self) -> int:
            return len(images) // source.batch

        def __iter__(self) -> Iterator[Any]:
            order = torch.randperm(len(images))
            return iter(order[: len(self) * source.batch].split(source.batch))

    loader = torch.utils.data.DataLoader(Array(), sampler=Batches(), batch_size=None)
    return _in_python(loader, lambda batch: batch[0])


def grain(source: Source, *, threads: int) -> Take:
    """Grain with ArrayRecord."""
    import grain

    records = grain.sources.ArrayRecordDataSource(str(source.data / "arrayrecord" / "train.arrayrecord"))

    def parse(record: bytes) -> tuple[Any, int]:
        return np.frombuffer(record, np.uint8, offset=1).reshape(*SIZE, 1), record[0]

    dataset = grain.MapDataset.source(records).seed(0).shuffle().repeat().map(parse)
    dataset = dataset.batch(source.batch, drop_remainder=True)
    read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(8, threads))
    return _in_python(dataset.to_iter_dataset(read), lambda batch: batch[0])


def webdataset(source: Source, *, workers: int) -> Take:
    """WebDataset; each worker makes whole batches."""
    import webdataset as wds

    def parse(record: tuple[bytes, bytes]) -> tuple[Any, int]:
        return np.frombuffer(record[0], np.uint8).reshape(*SIZE, 1), record[1][0]

    shards = sorted(str(path) for path in (source.data / "tar").glob("*.tar"))
    dataset = wds.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000).to_tuple("image", "label")
    dataset = dataset.map(parse).batched(source.batch, partial=False)
    loader = wds.WebLoader(dataset, batch_size=None, **_of_workers(workers))
    return _in_python(loader, lambda batch: batch[0])


def mosaic(source: Source, *, workers: int) -> Take:
    """MosaicML Streaming, all shards local, with PyTorch's DataLoader."""
    import streaming
    from torch.utils.data import DataLoader

    streaming.base.util.clean_stale_shared_memory()
    dataset = streaming.StreamingDataset(
        local=str(source.data / "mds"), shuffle=True, batch_size=source.batch
    )
    loader = DataLoader(dataset, source.batch, drop_last=True, **_of_workers(workers))
    return _in_python(loader, lambda batch: batch["image"])


def dali_records(source: Source) -> Take:
    """DALI on the CPU, on our shards."""
    from nvidia.dali import fn, pipeline_def, tfrecord

    shards = [source.raw / shard.name for shard in Manifest.load(source.raw).split("train").shards]

    @pipeline_def(batch_size=source.batch, num_threads=2, device_id=None)
    def records() -> Any:
        record = fn.readers.tfrecord(
            path=list(map(str, shards)),
            index_path=[str(source.raw / index_name(shard.name)) for shard in shards],
            features={
                "image": tfrecord.FixedLenFeature((), tfrecord.string, ""),
                "label": tfrecord.FixedLenFeature([1], tfrecord.int64, -1),
            },
            random_shuffle=True,
            name="reader",
        )
        return fn.reshape(record["image"], shape=[*SIZE, 1]), record["label"]

    return _dali(records())


def dali_files(source: Source) -> Take:
    """DALI on the CPU, on the files."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=source.batch, num_threads=2, device_id=None)
    def files() -> Any:
        data, label = fn.readers.file(file_root=str(source.images), random_shuffle=True, name="reader")
        image = fn.decoders.image(data, device="cpu", output_type=types.GRAY)
        return fn.resize(image, size=SIZE), label

    return _dali(files())


def _dali(pipeline: Any) -> Take:
    pipeline.build()
    return lambda count: sum(pipeline.run()[0].as_tensor().shape()[0] for _ in range(count))


PEERS: dict[str, tuple[str, Callable[..., Take]]] = {  # name -> package, contender
    "image_dataset_from_directory": ("keras", notebook),
    "same, records cached": ("keras", partial(notebook, cached="records")),
    "same, batches cached (never new ones)": ("keras", partial(notebook, cached="batches")),
    "tensorflow-datasets, our shards": ("tensorflow_datasets", tensorflow_datasets),
    "same, cached": ("tensorflow_datasets", partial(tensorflow_datasets, cached=True)),
    "PyTorch DataLoader, files": ("torch", torch_files),
    "PyTorch DataLoader, array in RAM": ("torch", torch_array),
    "Grain, ArrayRecord": ("grain", grain),
    "WebDataset": ("webdataset", webdataset),
    "MosaicML Streaming": ("streaming", mosaic),
    "DALI on the CPU, our shards": ("nvidia.dali", dali_records),
    "DALI on the CPU, files": ("nvidia.dali", dali_files),
}
SETTINGS: dict[str, tuple[str, tuple[int, ...]]] = {  # name -> argument, values to try
    "PyTorch DataLoader, files": ("workers", (0, 1, 2)),
    "Grain, ArrayRecord": ("threads", (1, 2, 4, 16)),
    "WebDataset": ("workers", (0, 1, 2)),
    "MosaicML Streaming": ("workers", (0, 1, 2)),
}
