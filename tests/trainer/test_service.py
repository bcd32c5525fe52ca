"""A run whose batches a data service makes, all as processes of their own."""

import socket
import subprocess
import time
from contextlib import ExitStack

import keras
import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.stops]

FLAGS = (
    "--model=cnn",
    "--epochs=5",
    "--patience=99",
    "--global_batch_size=2",  # many steps: a lost worker's batches were made some dozens of steps ahead
    "--precision=float32",
    "--deterministic",
    "--cache=stream",
    "--checkpoint_steps=20",
    "--checkpoint_minutes=0",
)


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def serve(start):
    """Starts a dispatcher or a worker."""

    def serve(port, *flags):
        process = start("-m", "data_pipeline.serve", f"--port={port}", *flags, stderr=subprocess.DEVNULL)
        assert process.stdout.readline().endswith(f" on port {port}\n")
        return process

    return serve


def of_command(data, run, *flags):
    return ("trainer.main", f"--data={data}", f"--run_dir={run}", *FLAGS, *flags)


def steps_in(run):
    """The steps there is a checkpoint of."""
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


def assert_same_weights(run, other):
    ours, theirs = (keras.models.load_model(one / "model.keras").get_weights() for one in (run, other))
    for mine, its in zip(ours, theirs, strict=True):
        assert np.array_equal(mine, its)


@pytest.mark.storm
def test_a_served_run_is_the_run_itself_and_a_lost_worker_ends_it_until_it_is_back(
    converted, run_command, serve, start, tmp_path
):
    """Same weights to the bit: without the service, with it, and with a worker killed in mid-epoch."""
    plain, served, harmed = (tmp_path / name for name in ("plain", "served", "harmed"))
    done = run_command(*of_command(converted, plain))
    assert (done.returncode, done.stderr) == (0, "")

    port, *ports = free_ports(3)
    service = f"--data_service=grpc://127.0.0.1:{port}"
    addresses = ",".join(f"127.0.0.1:{one}" for one in ports)
    worker = ("--role=worker", f"--dispatcher=127.0.0.1:{port}")
    serve(port, "--role=dispatcher", f"--workers={addresses}")
    serve(ports[0], *worker)
    second = serve(ports[1], *worker)
    done = run_command(*of_command(converted, served, service))
    assert done.returncode == 0, done.stderr
    assert_same_weights(served, plain)
    assert steps_in(served) == steps_in(plain)

    # It is killed when the run has its first checkpoint, in mid-epoch.
    training = start("-m", *of_command(converted, harmed, service))
    while training.poll() is None and not (harmed / "checkpoints").is_dir():
        time.sleep(0.01)
    second.kill()
    second.wait()
    _, error = training.communicate()
    assert training.returncode == 2, error
    assert "Traceback" not in error
    assert error[error.index("error: ") :] == (
        f"error: {service}: no answer from number 2 of the 2 workers that the dispatcher's --workers "
        f"names; start all that do not run; then the same command again goes on from the last "
        f"checkpoint\n"
    )
    assert not (harmed / "model.keras").exists()
    serve(ports[1], *worker)
    done = run_command(*of_command(converted, harmed, service))
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch " in done.stdout
    assert_same_weights(harmed, plain)
    assert steps_in(harmed) == steps_in(plain)
