"""Workers that meet: real sockets, each worker in a thread."""

import socket
import threading
from contextlib import ExitStack

import pytest

from tfrecords.errors import EndedEarly, InputError
from trainer.workers.cluster import Cluster
from trainer.workers.meeting import meet


def clusters(count):
    """The cluster as each worker sees it, on ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = tuple(("127.0.0.1", each.getsockname()[1]) for each in sockets)
    names = tuple(f"worker {rank}" for rank in range(count))
    return [Cluster(names, addresses, rank) for rank in range(count)]


def together(workers, facts=None, delay=None, **options):
    """What each worker got or was told."""
    found = [None] * len(workers)

    def one(place):
        cluster = workers[place]
        if delay:
            threading.Event().wait(delay[place])
        given = (facts or [{}] * len(workers))[place]
        chief = {"ready": options["ready"]} if cluster.chief and "ready" in options else {}
        try:
            found[place] = meet(
                cluster, given, lambda text: None, deadline=options.get("deadline", 60), **chief
            )
        except (InputError, EndedEarly) as error:
            found[place] = error

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_alone_nobody_is_waited_for():
    cluster = Cluster(("this process",), (("localhost", 0),), 0)
    assert meet(cluster, {}, print, ready=lambda: {"threads": 3}) == {"threads": 3}


@pytest.mark.slow
@pytest.mark.parametrize("delay", [None, (0, 0.5, 1), (1, 0.5, 0)])
def test_all_go_together_with_what_the_chief_has_chosen(delay):
    workers = clusters(3)
    assert together(workers, delay=delay, ready=lambda: {"threads": 2}) == [{"threads": 2}] * 3
    for _, port in workers[0].addresses:  # given back, for TensorFlow to take
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.slow
def test_who_does_not_come_is_named_and_the_code_says_to_start_all_again():
    workers = clusters(3)
    chief, helper = together([workers[0], workers[2]], deadline=1.5)
    for error in (chief, helper):
        assert isinstance(error, EndedEarly)
        assert error.code == 76
        assert workers[0].describe(1) in str(error)
        assert "worker 2" not in str(error)
    (alone,) = together([workers[1]], deadline=1.0)
    assert workers[0].describe(0) in str(alone)


@pytest.mark.slow
def test_what_is_waited_for_is_said(monkeypatch):
    monkeypatch.setattr("trainer.workers.meeting._FIRST_LOG_SECONDS", 0.3)
    workers, said = clusters(2), []
    with pytest.raises(EndedEarly):
        meet(workers[1], {}, said.append, deadline=1.5)
    assert said
    assert f"waiting for {workers[0].describe(0)}" in said[0]
    assert "at most 2 s" in said[0]


def test_different_flags_are_told_to_all():
    found = together(clusters(2), facts=[{"model": "cnn"}, {"model": "mlp"}])
    for error in found:
        assert isinstance(error, InputError)
        assert "--model=cnn on the chief, --model=mlp on worker 1" in str(error)


@pytest.mark.parametrize(
    ("raised", "kind"), [(InputError("the lock is held"), InputError), (EndedEarly("done", 0), EndedEarly)]
)
def test_what_keeps_the_chief_keeps_all(raised, kind):
    def ready():
        raise raised

    found = together(clusters(2), ready=ready)
    assert [type(error) for error in found] == [kind] * 2
    assert [str(error) for error in found] == [str(raised)] * 2
    assert [getattr(error, "code", None) for error in found] == [getattr(raised, "code", None)] * 2


@pytest.mark.slow
def test_a_port_in_use_is_named(monkeypatch):
    monkeypatch.setattr("trainer.workers.meeting._PORT_SECONDS", 0.5)
    workers = clusters(2)
    with socket.create_server(workers[1].addresses[1]), pytest.raises(InputError) as error:
        meet(workers[1], {}, print)
    assert workers[0].describe(1) in str(error.value)
    assert "Address already in use" in str(error.value)


@pytest.mark.slow
def test_a_stranger_at_the_door_is_not_a_worker():
    workers, results = clusters(2), []
    thread = threading.Thread(target=lambda: results.extend(together(workers, delay=(0, 1.5))))
    thread.start()
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"rank": 9}\n', b'{"rank": 0}\n', b""):
        while True:
            try:
                with socket.create_connection(workers[0].addresses[0], timeout=5) as stranger:
                    stranger.sendall(text)
                break
            except ConnectionRefusedError:
                continue
    thread.join()
    assert results == [{}, {}]


def test_a_worker_that_left_while_waiting_is_waited_for_again():
    workers = clusters(3)
    with pytest.raises(EndedEarly):
        meet(workers[1], {}, lambda text: None, deadline=0.3)
    results = []
    thread = threading.Thread(target=lambda: results.extend(together(workers[:1])))
    thread.start()
    with socket.socket() as early:
        early.settimeout(5)
        while early.connect_ex(workers[0].addresses[0]):
            early.close()
            early = socket.socket()  # noqa: PLW2901  # a socket that failed to connect cannot try again
        early.sendall(b'{"rank": 1, "facts": {}}\n')
        early.close()
    results += together(workers[1:])  # not before it has left: who leaves when all are there is lost later
    thread.join()
    assert results == [{}] * 3
