import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.damage import named_damage
from data_pipeline.dataset import epoch_steps, make_dataset
from data_pipeline.options import PipelineOptions, Worker
from data_pipeline.stream import batches as chain
from data_pipeline.stream.service import count_workers, parsed_elsewhere
from tfrecords.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.stops]

BATCH = 24


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


PATIENCE = 10  # seconds in which those workers that run answer, on a busy machine too


@dataclass
class Service:
    """A dispatcher and its workers, each a process of its own."""

    start: Callable
    port: int
    ports: list
    workers: dict
    dispatcher: subprocess.Popen | None = None
    listening: list = field(default_factory=list)

    @property
    def address(self):
        return f"grpc://127.0.0.1:{self.port}"

    def serve(self, *flags):
        return self.start("-m", "data_pipeline.serve", *flags, stderr=subprocess.DEVNULL)

    def wait(self):
        """Waits until all that were started listen."""
        for port, process in ((self.port, self.dispatcher), *self.workers.items()):
            if process not in self.listening:
                assert process.stdout.readline().endswith(f"on port {port}\n")
                self.listening.append(process)

    def start_dispatcher(self):
        addresses = ",".join(f"127.0.0.1:{one}" for one in self.ports)
        self.dispatcher = self.serve("--role=dispatcher", f"--port={self.port}", f"--workers={addresses}")

    def end(self, process):
        process.kill()
        process.wait()

    def start_worker(self, port):
        self.workers[port] = self.serve(
            "--role=worker", f"--port={port}", f"--dispatcher=127.0.0.1:{self.port}"
        )


@pytest.fixture
def service(start):
    port, *ports = free_ports(3)
    service = Service(start, port, ports, {})
    service.start_dispatcher()
    for one in ports:
        service.start_worker(one)
    service.wait()
    return service


def served(data, address, **arguments):
    options = PipelineOptions(
        global_batch_size=BATCH, cache="stream", seed=3, shuffle_window=20_000, data_service=address
    )
    return make_dataset(
        data.directory,
        data.manifest,
        "train",
        options,
        training=True,
        fields=("image", "label", "weight", "id", "copy"),
        **arguments,
    )


def batches(data, address, count, **arguments):
    return list(served(data, address, **arguments).take(count).as_numpy_iterator())


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


@pytest.fixture
def short_patience(monkeypatch):
    """A lost worker is told of earlier."""
    monkeypatch.setattr(chain, "parsed_elsewhere", partial(parsed_elsewhere, silence=1, patience=PATIENCE))


def kill_worker(service):
    service.end(service.workers[service.ports[1]])


def stop_worker(service):
    service.workers[service.ports[1]].send_signal(signal.SIGSTOP)


def restart_worker(service):
    kill_worker(service)
    service.start_worker(service.ports[1])
    service.wait()


def restart_dispatcher(service):
    service.end(service.dispatcher)
    service.start_dispatcher()
    service.wait()


NAMED = "that the dispatcher's --workers names; start all that do not run"
SILENT = f"no answer from number 2 of the 2 workers {NAMED}"
MISSING = "a worker or the dispatcher died or was started again, and batches are missing; see that all "
HELD_UP = f"no answer from any of the workers (one may hold up the rest) {NAMED}"


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (kill_worker, SILENT),
        pytest.param(stop_worker, HELD_UP, marks=pytest.mark.storm),
        pytest.param(restart_worker, MISSING, marks=pytest.mark.storm),
        pytest.param(restart_dispatcher, MISSING, marks=pytest.mark.storm),
    ],
)
def test_what_is_lost_while_training_ends_it_and_it_goes_on_when_it_is_there(
    service, converted, harm, message
):
    data = converted("png")
    taken = []

    def take():
        for batch in served(data, service.address).as_numpy_iterator():
            taken.append(batch)
            if len(taken) == 20:
                harm(service)

    with pytest.raises(InputError) as raised, named_damage(data.directory, data.manifest, "train"):
        take()
    assert str(raised.value).startswith(f"--data_service={service.address}: {message}")
    assert str(raised.value).endswith("then the same command again goes on from the last checkpoint")
    local = batches(data, "", len(taken) + 20)
    assert_equal(taken, local[: len(taken)])  # what came before the error is right

    if harm is kill_worker:  # it is told at the next start too
        with pytest.raises(InputError, match=re.escape(message)):
            count_workers(service.address, patience=PATIENCE)
    if harm is kill_worker:
        service.start_worker(service.ports[1])
        service.wait()
    if harm is stop_worker:
        service.workers[service.ports[1]].send_signal(signal.SIGCONT)
    start = len(taken) - 7
    assert_equal(batches(data, service.address, 20, start_step=start), local[start : start + 20])


def test_once_it_runs_training_needs_no_dispatcher(service, converted):
    data = converted("png")
    made = served(data, service.address).as_numpy_iterator()
    taken = list(islice(made, 20))
    service.end(service.dispatcher)
    taken += islice(made, 200)
    assert_equal(taken, batches(data, "", 220))


@pytest.mark.usefixtures("short_patience")
def test_slow_workers_are_waited_for(service, converted):
    """Stopped for longer than no batch may come, going on before their time to answer is over."""
    data = converted("png")
    made = served(data, service.address).as_numpy_iterator()
    taken = list(islice(made, 20))
    for process in service.workers.values():
        process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(2, lambda: [p.send_signal(signal.SIGCONT) for p in service.workers.values()])
    timer.start()
    taken += islice(made, 200)
    timer.join()
    assert_equal(taken, batches(data, "", 220))


def test_a_missing_worker_is_told(start, facts):
    port, *ports = free_ports(3)
    service = Service(start, port, ports, {})
    service.start_dispatcher()
    service.start_worker(ports[0])
    service.wait()
    with pytest.raises(InputError) as raised:
        count_workers(service.address, patience=PATIENCE)
    assert re.search(facts(f"--data_service={service.address}: {SILENT}"), str(raised.value))


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
def test_an_address_of_another_form(address, facts):
    with pytest.raises(InputError) as raised:
        PipelineOptions(data_service=address)
    assert re.search(facts(f"--data_service={address}: must be grpc://HOST:PORT"), str(raised.value))


@pytest.mark.parametrize("values", [{"data_service": "grpc://h:1"}, {"shards_at": "s3://b/data"}])
def test_only_a_stream_can_be_served_or_read_from_its_url(values):
    with pytest.raises(
        InputError, match="--cache=memory: --data_service and --remote=direct need --cache=stream; "
    ):
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
