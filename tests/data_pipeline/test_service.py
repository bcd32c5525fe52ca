import socket
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.dataset import epoch_steps, make_dataset
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.service import count_workers
from tfrecords.errors import InputError

BATCH = 24


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass
class Service:
    """A dispatcher and its workers, each a process of its own."""

    environment: dict
    port: int
    workers: dict

    @property
    def address(self):
        return f"grpc://127.0.0.1:{self.port}"

    def serve(self, *flags):
        process = subprocess.Popen(
            [sys.executable, "-m", "data_pipeline.serve", *flags],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout.readline().endswith(f"on port {flags[1].removeprefix('--port=')}\n")
        return process

    def start_worker(self, port):
        self.workers[port] = self.serve(
            "--role=worker", f"--port={port}", f"--dispatcher=127.0.0.1:{self.port}"
        )


@pytest.fixture
def service(command_environment):
    port, *ports = free_ports(3)
    service = Service(command_environment, port, {})
    addresses = ",".join(f"127.0.0.1:{one}" for one in ports)
    dispatcher = service.serve("--role=dispatcher", f"--port={port}", f"--workers={addresses}")
    for one in ports:
        service.start_worker(one)
    yield service
    for process in (*service.workers.values(), dispatcher):
        process.kill()
        process.wait()
        process.stdout.close()


def batches(data, address, count, **arguments):
    options = PipelineOptions(
        global_batch_size=BATCH, cache="off", seed=3, shuffle_window=20_000, data_service=address
    )
    made = make_dataset(
        data.directory,
        data.manifest,
        "train",
        options,
        training=True,
        fields=("image", "label", "weight", "id", "copy"),
        **arguments,
    )
    return list(made.take(count).as_numpy_iterator())


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, values in other.items():
            assert np.array_equal(one[name], values), name


def test_two_workers_give_the_very_batches_in_order(service, converted):
    """Over two epochs and more, from the start and from mid-epoch, for a part of the global batch too."""
    data = converted("png")
    assert count_workers(service.address) == 2
    steps = epoch_steps(data.manifest, "train", PipelineOptions(global_batch_size=BATCH), training=True)
    count = 2 * steps + 3
    local = batches(data, "", count)
    assert_equal(batches(data, service.address, count), local)
    assert_equal(batches(data, service.address, count - 5, start_step=5), local[5:])
    worker = Worker(index=1, count=2, replicas=3)
    assert_equal(
        batches(data, service.address, 3 * count, worker=worker), batches(data, "", 3 * count, worker=worker)
    )
    seen = [(i, c) for batch in local[:steps] for i, c in zip(batch["id"], batch["copy"], strict=True)]
    assert set(seen) == {(record.id, record.copy) for record in data.records("train")}


def test_a_missing_worker_is_told(command_environment):
    port, there, missing = free_ports(3)
    service = Service(command_environment, port, {})
    addresses = f"--workers=127.0.0.1:{there},127.0.0.1:{missing}"
    dispatcher = service.serve("--role=dispatcher", f"--port={port}", addresses)
    service.start_worker(there)
    with pytest.raises(InputError, match="1 of its 2 workers are there; start them all"):
        count_workers(service.address, patience=0)
    for process in (service.workers[there], dispatcher):
        process.kill()
        process.wait()
        process.stdout.close()


def test_no_dispatcher(data):
    (port,) = free_ports(1)
    with pytest.raises(InputError) as raised:
        batches(data, f"grpc://127.0.0.1:{port}", 1)
    assert str(raised.value).startswith(
        f"--data_service=grpc://127.0.0.1:{port}: no dispatcher answers there"
    )
    assert f"python -m data_pipeline.serve --role=dispatcher --port={port}" in str(raised.value)


def test_a_dispatcher_without_a_list_of_workers():
    server = tf.data.experimental.service.DispatchServer()
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address=server.target.split("://")[1])
    )
    with pytest.raises(InputError, match="has no fixed list of workers"):
        count_workers(server.target.replace("localhost", "127.0.0.1"))
    del worker


@pytest.mark.parametrize("address", ["127.0.0.1:5050", "grpc://127.0.0.1", "grpc://h:p", "http://h:1"])
def test_an_address_of_another_form(address):
    with pytest.raises(InputError) as raised:
        PipelineOptions(data_service=address)
    assert str(raised.value) == f"--data_service={address}: must be grpc://HOST:PORT"


@pytest.mark.parametrize("values", [{"data_service": "grpc://h:1"}, {"shards_at": "s3://b/data"}])
def test_only_a_stream_can_be_served_or_read_from_its_url(values):
    with pytest.raises(InputError, match="--cache=memory: --data_service and --remote=direct stream"):
        PipelineOptions(cache="memory", **values)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--role=dispatcher", "--port=1"), "error: --workers: is missing"),
        (("--role=worker", "--port=1"), "error: --dispatcher: is missing"),
    ],
)
def test_serve_refuses(run_command, flags, message):
    done = run_command("data_pipeline.serve", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
