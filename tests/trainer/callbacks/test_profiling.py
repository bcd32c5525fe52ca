import pytest
import tensorflow as tf

from trainer.callbacks.profiling import Profile

STEPS = 10  # of an epoch


def drive(folder, profiled, start, stop):
    """Runs single steps; returns what was said, and the numbers of steps in each trace that was written."""
    said = []
    profile = Profile(folder, *profiled, steps_per_epoch=STEPS, log=said.append)
    profile.on_train_begin()
    for step in range(start, stop):
        epoch, batch = divmod(step, STEPS)
        if batch == 0 or step == start:
            profile.on_epoch_begin(epoch)
        profile.on_train_batch_begin(batch)
        tf.reduce_sum(tf.ones([4]))
        profile.on_train_batch_end(batch)
    profile.on_train_end()
    traces = sorted(folder.glob("plugins/profile/*/*.xplane.pb"))
    return said, [trace.read_bytes() for trace in traces]


@pytest.mark.parametrize(
    ("profiled", "start", "stop", "words", "traces"),
    [
        ((8, 12), 0, 15, ["profiled steps 8 to 11"], 1),  # over the end of an epoch
        ((8, 12), 10, 15, ["only steps 10 to 11", "profiled steps 10 to 11"], 1),
        ((8, 12), 8, 10, ["profiled steps 8 to 9"], 1),  # stopped within
        ((8, 12), 12, 15, ["none is profiled"], 0),
        ((8, 12), 0, 8, ["ended after 8 steps"], 0),
        ((8, 12), 5, 5, ["no step"], 0),
    ],
)
def test_which_steps_are_profiled(tmp_path, profiled, start, stop, words, traces):
    said, found = drive(tmp_path, profiled, start, stop)
    assert len(said) == len(words), said
    for line, word in zip(said, words, strict=True):
        assert word in line
    assert len(found) == traces
    for trace in found:
        assert trace.count(b"step_num") >= 1
