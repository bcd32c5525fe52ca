import multiprocessing
import os
import re
import signal
import time
from functools import partial

import pytest

from tfrecords import pool
from tfrecords.errors import InputError
from tfrecords.pool import Pool


class Square:
    """Tells the squares of its items and its process; kills that, or refuses, where it is told to."""

    def __init__(self, *, killed_by=None, refused=None, locked=None):
        self.killed_by, self.refused, self.locked, self.prepared = killed_by, refused, locked, os.getpid()

    def __call__(self, item, count):
        if self.locked:
            (self.locked / str(self.prepared)).touch()
        if item == self.killed_by:
            if self.locked:
                while len(list(self.locked.iterdir())) < 2:  # the other works too
                    time.sleep(0.001)
                pool._done.get_lock().acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        if item == self.refused:
            raise InputError(f"item {item}")
        count(item)
        return item * item, self.prepared


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_are_in_order_and_all_is_counted(workers, join):
    counted, taken = [], []
    with Pool(workers) as processes:
        for items in (range(40), range(7), range(1), range(0)):
            results = processes.run(Square, items, progress=counted.append, take=taken.append, join=join)
            assert [square for square, _ in results] == [item * item for item in items]
            assert sorted(taken) == sorted(results)
            taken.clear()
            if not join and workers > 1 and len(items) > 1:
                assert os.getpid() not in {process for _, process in results}
    assert sum(counted) == sum(range(40)) + sum(range(7))


def test_this_process_takes_its_part_while_the_others_start():
    with Pool(2) as processes:
        results = processes.run(Square, range(200), join=True)
    assert os.getpid() in {process for _, process in results}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_or_a_taker_raises_ends_the_run(workers):
    with pytest.raises(InputError, match=r"^item 3$"), Pool(workers) as processes:
        processes.run(partial(Square, refused=3), range(40))

    def refuse(result):
        raise ValueError(f"{result[0]} is too large")

    with pytest.raises(ValueError, match="is too large"), Pool(workers) as processes:
        processes.run(Square, range(2, 40), take=refuse)


@pytest.mark.parametrize("early", [False, True], ids=["", "while work is handed out"])
@pytest.mark.parametrize("locked", [False, True], ids=["", "with the lock that all count with"])
def test_a_killed_worker_is_told_with_the_fix(facts, tmp_path, monkeypatch, locked, early):
    submit, handed_out = pool.ProcessPoolExecutor.submit, []

    def slowly(executor, *task):
        handed_out.append(task)
        while early and len(handed_out) > 20 and len(multiprocessing.active_children()) > 1:
            time.sleep(0.001)
        return submit(executor, *task)

    monkeypatch.setattr(pool.ProcessPoolExecutor, "submit", slowly)
    square = partial(Square, killed_by=5, locked=tmp_path if locked else None)
    with pytest.raises(InputError) as caught, Pool(2) as workers:
        workers.run(square, range(2000))
    assert multiprocessing.active_children() == []
    assert re.search(
        facts(
            "--workers=2: one of these processes was killed, most likely because memory was short (see the "
            "system's log tells); take fewer with --workers, then run the same command again"
        ),
        str(caught.value),
    )
