"""All workers meet before TensorFlow connects them.

TensorFlow waits for a missing peer silently, without a deadline, and handles no signal meanwhile. So the
workers meet here first. Each opens its own port, which shows whether the port is free, and tells the chief
that it has come. When all have come, the chief sends "go", and all close their ports for TensorFlow.
"""

import json
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final, cast

from tfrecords.command import BAD_INPUT, PEER_LOST
from tfrecords.errors import EndedEarly, InputError
from trainer.workers.cluster import Cluster

JOIN_SECONDS: Final = 600.0  # a cluster may need minutes to restart a lost worker
_LOG_SECONDS: Final = 15.0  # between two lines that say for whom a worker waits
_FIRST_LOG_SECONDS: Final = 3.0  # before the first: none where all come at about the same time
_RETRY_SECONDS: Final = 0.2
_PORT_SECONDS: Final = 10.0  # to wait until an earlier worker has closed this port
_ANSWER_SECONDS: Final = 5.0
_LONGEST: Final = 1 << 16  # bytes of a message

Facts = dict[str, Any]


def meet(
    cluster: Cluster,
    facts: Facts,
    log: Callable[[str], None],
    *,
    ready: Callable[[], Facts] = dict,
    deadline: float = JOIN_SECONDS,
) -> Facts:
    """Waits until all workers have come, with the same facts; returns at once in a cluster of one.

    Args:
        cluster: the workers.
        facts: plain values by name, which must be the same on all workers.
        log: called with a line that says for whom this worker waits.
        ready: called on the chief when all have come. An error that it raises ends all workers.
        deadline: seconds to wait for all.

    Returns:
        what `ready` returned on the chief; the same on all workers.

    Raises:
        InputError: a port is in use, or the facts of the workers differ.
        EndedEarly: a worker has not come in time.
    """
    if len(cluster.names) == 1:
        return ready()
    end = time.monotonic() + deadline
    with _own_port(cluster) as server:
        waiting = _Waiting(cluster, log, deadline)
        if cluster.chief:
            return _Gathering(cluster, server, facts, waiting).to_the_end(ready, end)
        return _join(cluster, facts, waiting, end)


class _Waiting:
    """Logs for whom this worker waits, every `_LOG_SECONDS`."""

    def __init__(self, cluster: Cluster, log: Callable[[str], None], deadline: float) -> None:
        self._cluster, self._log, self._deadline = cluster, log, deadline
        self._began = time.monotonic()
        self._logged = self._began - _LOG_SECONDS + _FIRST_LOG_SECONDS

    def tell(self, ranks: list[int], *, now: bool = False) -> bool:
        """Logs for which workers this one waits, if it is time or `now` is set; returns whether it did."""
        time_now = time.monotonic()
        if not now and time_now - self._logged < _LOG_SECONDS:
            return False
        self._logged = time_now
        self._log(
            f"waiting for {self._names(ranks)}: {time_now - self._began:.0f} s so far, at most "
            f"{self._deadline:.0f} s"
        )
        return True

    def give_up(self, ranks: list[int]) -> EndedEarly:
        return EndedEarly(
            f"{self._names(ranks)} did not come within {self._deadline:.0f} s; check its machine and "
            f"its log, then run all workers again",
            PEER_LOST,
        )

    def _names(self, ranks: list[int]) -> str:
        few = ", ".join(self._cluster.describe(rank) for rank in ranks[:3])
        return few + (f" and {len(ranks) - 3} more" if len(ranks) > 3 else "")


def _own_port(cluster: Cluster) -> socket.socket:
    host, port = cluster.addresses[cluster.rank]
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    end = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            if loopback:
                return socket.create_server((host, port))
            if socket.has_dualstack_ipv6():
                return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            return socket.create_server(("", port))
        except OSError as error:
            if time.monotonic() > end:
                raise InputError(
                    f"TF_CONFIG: {cluster.describe(cluster.rank)} is this process, but its port {port} "
                    f"cannot be opened: {error.strerror}; end the process that uses it, or choose another"
                ) from None
            time.sleep(_RETRY_SECONDS)


class _Gathering:
    """The chief's part: it waits for the others and sends them "go"."""

    def __init__(self, cluster: Cluster, server: socket.socket, facts: Facts, waiting: _Waiting) -> None:
        self._cluster, self._server, self._facts, self._waiting = cluster, server, facts, waiting
        self._peers: dict[int, socket.socket] = {}  # the workers that have come, by rank

    @property
    def _missing(self) -> list[int]:
        return [rank for rank in range(1, len(self._cluster.names)) if rank not in self._peers]

    def to_the_end(self, ready: Callable[[], Facts], end: float) -> Facts:
        """Waits for all, then sends "go", or the error that ends them."""
        with ExitStack() as opened, selectors.DefaultSelector() as selector:
            self._server.setblocking(False)
            selector.register(self._server, selectors.EVENT_READ)
            try:
                while self._missing:
                    if time.monotonic() > end:
                        raise self._waiting.give_up(self._missing)
                    if self._waiting.tell(self._missing):
                        self._tell_all({"waiting": self._missing})
                    for key, _ in selector.select(_RETRY_SECONDS):
                        if key.fileobj is self._server:
                            peer = opened.enter_context(self._server.accept()[0])
                            peer.settimeout(_ANSWER_SECONDS)  # a worker sends its rank at once
                            selector.register(peer, selectors.EVENT_READ)
                        else:
                            self._receive_rank(cast("socket.socket", key.fileobj), selector)
                chosen = ready()
            except (InputError, EndedEarly) as error:
                self._tell_all({"refused": str(error), "code": getattr(error, "code", BAD_INPUT)})
                raise
            self._tell_all({"go": chosen})
            for peer in self._peers.values():  # peers close first, so that this port is free at once
                peer.settimeout(_ANSWER_SECONDS)
                with suppress(OSError):
                    peer.recv(1)
            return chosen

    def _receive_rank(self, peer: socket.socket, selector: selectors.BaseSelector) -> None:
        message = _receive(peer)
        rank = message.get("rank") if message else None
        if message is None or not isinstance(rank, int) or not 0 < rank < len(self._cluster.names):
            selector.unregister(peer)  # it has ended, or is another program
            peer.close()
            self._peers = {number: each for number, each in self._peers.items() if each is not peer}
            return
        self._peers[rank] = peer
        theirs = message.get("facts", {})
        for name, value in self._facts.items():
            if theirs.get(name) != value:
                raise InputError(
                    f"the workers were started with different flags: --{name}={value} on the chief, "
                    f"--{name}={theirs.get(name)} on {self._cluster.names[rank]}; start all with the same "
                    f"command"
                )

    def _tell_all(self, message: Facts) -> None:
        for peer in self._peers.values():
            _send(peer, message)


def _join(cluster: Cluster, facts: Facts, waiting: _Waiting, end: float) -> Facts:
    """The part of all workers but the chief."""
    while time.monotonic() < end:
        waiting.tell([0])
        with (
            suppress(OSError, EOFError),  # the chief has not come yet, or has just ended
            socket.create_connection(cluster.addresses[0], timeout=_ANSWER_SECONDS) as chief,
        ):
            _send(chief, {"rank": cluster.rank, "facts": facts})
            while (
                time.monotonic() < end + _ANSWER_SECONDS
            ):  # the chief ends the wait and names who is missing
                message = _receive_in_time(chief)
                if message is None:
                    continue
                if "go" in message:
                    return dict(message["go"])
                if "refused" in message and message.get("code") == BAD_INPUT:
                    raise InputError(message["refused"])
                if "refused" in message:
                    raise EndedEarly(message["refused"], int(message["code"]))
                waiting.tell(message["waiting"], now=True)
        time.sleep(_RETRY_SECONDS)
    raise waiting.give_up([0])


def _send(to: socket.socket, message: Facts) -> None:
    with suppress(OSError):  # a peer that has ended is noticed when its answer is missing
        to.sendall(json.dumps(message).encode() + b"\n")


def _receive(peer: socket.socket) -> Facts | None:
    """Returns a peer's message; None if the peer has ended or sent something else."""
    data = b""
    try:
        while not data.endswith(b"\n") and len(data) < _LONGEST:
            part = peer.recv(1)  # byte by byte: the next message may follow
            if not part:
                return None
            data += part
        message = json.loads(data)
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None


def _receive_in_time(chief: socket.socket) -> Facts | None:
    """Returns the chief's message; None if none has come yet.

    Raises:
        EOFError: the chief has ended, or another program answers.
    """
    chief.settimeout(_RETRY_SECONDS)
    try:
        if not chief.recv(1, socket.MSG_PEEK):
            raise EOFError
    except TimeoutError:
        return None
    chief.settimeout(_ANSWER_SECONDS)
    message = _receive(chief)
    if message is None or not message.keys() & {"go", "refused", "waiting"}:
        raise EOFError
    return message
