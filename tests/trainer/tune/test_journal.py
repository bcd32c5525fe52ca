import multiprocessing
from contextlib import suppress

import pytest

from tfrecords.errors import InputError
from trainer.tune.journal import Journal


def events_of(journal):
    return [{name: value for name, value in event.items() if name != "at"} for event in journal.read()]


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    with journal.lease() as lease:
        lease.append([{"event": "a", "x": 0.1}, {"event": "b", "text": "ä\n\u2028"}])
    return journal


def test_what_is_appended_is_read(journal):
    assert events_of(journal) == [{"event": "a", "x": 0.1}, {"event": "b", "text": "ä\n\u2028"}]
    with journal.lease() as lease:
        lease.append([{"event": "c"}])
        assert lease.events == journal.read()


def test_none_yet(tmp_path):
    assert Journal(tmp_path / "none").read() == []


def test_a_kill_in_the_middle_of_a_line_leaves_no_harm(journal, tmp_path):
    path = tmp_path / "journal" / "journal.jsonl"
    whole = path.read_bytes()
    with journal.lease() as lease:
        lease.append([{"event": "c"}])
    last = path.read_bytes()[len(whole) :]
    for kept in range(len(last)):
        path.write_bytes(whole + last[:kept])
        assert [event["event"] for event in journal.read()] == ["a", "b"]
        with journal.lease() as lease:
            lease.append([{"event": "d"}])
        assert [event["event"] for event in journal.read()] == ["a", "b", "d"]


def test_a_flipped_bit_is_told(journal, tmp_path, facts):
    path = tmp_path / "journal" / "journal.jsonl"
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole) - 1):  # the last byte ends the last line
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with suppress(InputError):
            # JSON has more than one text for a value; what is read is what was written.
            assert events_of(journal) == [{"event": "a", "x": 0.1}, {"event": "b", "text": "ä\n\u2028"}]
            continue
        refused += 1
    path.write_bytes(b"x" + whole[1:])
    with pytest.raises(InputError, match=facts(f"{path}, line 1: another --search_dir")):
        journal.read()
    assert refused > 0.9 * len(whole)


def _append(folder, number):
    for count in range(10):
        with Journal(folder).lease() as lease:
            lease.append([{"event": "x", "process": number, "count": count, "before": len(lease.events)}])


@pytest.mark.slow
def test_processes_append_one_after_the_other(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(tmp_path / "journal", number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    events = events_of(Journal(tmp_path / "journal"))
    assert [event["before"] for event in events] == list(range(30))
    for number in range(3):
        assert [event["count"] for event in events if event["process"] == number] == list(range(10))
