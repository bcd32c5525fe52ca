import os

import pytest

from data_pipeline.quiet import quiet_start

NOISE = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795378576.554507   26382 port.cc:153] oneDNN custom operations are on. You may see\n"
    b"2025-01-01 00:00:00.0: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.\n"
    b"2025-01-01 00:00:00.0: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow\n"
    b"To enable the following instructions: AVX2 AVX512F, rebuild TensorFlow\n"
    b"2025-01-01: E external/local_xla/cuda_dnn.cc:9261] Unable to register cuDNN factory: Attempting\n"
    b"2025-01-01: E cuda_driver.cc:152] failed call to cuInit: INTERNAL: CUDA error\n"
)


def test_known_notes_are_dropped_and_all_else_is_passed_on_in_order(capfd):
    with quiet_start():
        os.write(2, b"first\n" + NOISE + b"W something is wrong: read this\nlast, without a newline")
    assert capfd.readouterr().err == "first\nW something is wrong: read this\nlast, without a newline"


def test_nothing_is_held_back_from_who_looks_for_an_error(capfd):
    def broken():
        os.write(2, NOISE)
        raise ImportError("broken")

    with pytest.raises(ImportError, match="broken"), quiet_start():
        broken()
    assert capfd.readouterr().err == NOISE.decode()


def test_standard_error_is_as_before(capfd):
    with quiet_start():
        pass
    os.write(2, NOISE)
    assert capfd.readouterr().err == NOISE.decode()


@pytest.mark.parametrize(("before", "after"), [(None, "2"), ("0", "0")])
def test_the_log_level_is_lowered_unless_it_was_set(monkeypatch, before, after):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "x")
    if before is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    else:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", before)
    with quiet_start():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == after
