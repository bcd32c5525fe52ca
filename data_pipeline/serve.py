"""Runs the dispatcher or a worker of a data service until a signal ends it.

    python -m data_pipeline.serve --role=dispatcher --port=5050 --workers=127.0.0.1:5051,127.0.0.1:5052
    python -m data_pipeline.serve --role=worker --dispatcher=127.0.0.1:5050 --port=5051
    python -m data_pipeline.serve --role=worker --dispatcher=127.0.0.1:5050 --port=5052

Then start `trainer.main --data_service=grpc://127.0.0.1:5050`. The servers have no authentication: use
loopback or a private network.
"""

import signal
from typing import NoReturn

from absl import flags

from data_pipeline.quiet import quiet_start
from tfrecords.command import run
from tfrecords.errors import InputError

_ROLE = flags.DEFINE_enum(
    "role",
    None,
    ["dispatcher", "worker"],
    "The server to run. dispatcher: tells each trainer which workers there are; a service has one. worker: "
    "reads, parses and decodes batches; a service may have many.",
    required=True,
)
_PORT = flags.DEFINE_integer("port", None, "The port on which this server listens.", 1, 65535, required=True)
_WORKERS = flags.DEFINE_list(
    "workers", [], "The addresses of all workers, as HOST:PORT,HOST:PORT; for --role=dispatcher only."
)
_DISPATCHER = flags.DEFINE_string(
    "dispatcher", None, "The address of the dispatcher, as HOST:PORT; for --role=worker only."
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "The host name of this worker, as the dispatcher's --workers has it; for --role=worker only.",
)
# Milliseconds. A restarted worker gets its work with the next heartbeat; TensorFlow's default is 30 s.
_HEARTBEAT = 1000


def main(_: list[str]) -> None:
    """Parses the flags and serves."""
    if _ROLE.value == "dispatcher" and not _WORKERS.value:
        raise InputError("--workers: is missing; name all workers, as 127.0.0.1:5051,127.0.0.1:5052")
    if _ROLE.value == "worker" and not _DISPATCHER.value:
        raise InputError("--dispatcher: is missing; name the dispatcher, as 127.0.0.1:5050")
    with quiet_start():
        from tensorflow.data.experimental import service
    if _ROLE.value == "dispatcher":
        server = service.DispatchServer(
            service.DispatcherConfig(port=_PORT.value, worker_addresses=_WORKERS.value)
        )
    else:
        server = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=_DISPATCHER.value,
                worker_address=f"{_HOST.value}:{_PORT.value}",
                port=_PORT.value,
                heartbeat_interval_ms=_HEARTBEAT,
            )
        )
    print(f"{_ROLE.value} on port {_PORT.value}", flush=True)
    _until_ended(server)


def _until_ended(_: object) -> NoReturn:
    """Keeps a server running until a signal ends the process; the server's own `join` would block signals."""
    while True:
        signal.pause()


if __name__ == "__main__":
    run(main)
