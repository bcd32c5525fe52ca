"""What workers decide together, by sums that a test makes up; real workers: test_parity.py."""

import pytest

from tfrecords.errors import InputError
from trainer.workers import agreement
from trainer.workers.agreement import check_agreement


def test_who_disagrees_leaves_when_all_have_heard_it(monkeypatch):
    """Else the others would miss his share of the sums, and call him lost instead of telling what differs."""
    told = []

    def add(own):
        told.append(own)
        return [2, own[1] + 4, own[2] + 16] if len(own) == 3 else own  # another worker holds 4

    monkeypatch.setattr(agreement, "sum_over_workers", lambda _: add)
    check_agreement(None, 4, "the step")
    assert told == [[1, 4, 16]]
    with pytest.raises(InputError, match=r"disagree on the step: 1 here, 2\.5 on average"):
        check_agreement(None, 1, "the step")
    assert told[1:] == [[1, 1, 1], [0]]
