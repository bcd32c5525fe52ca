import pytest
from sessions import curve, read
from tensorboard.plugins.hparams import api_pb2, summary_v2

from tfrecords.errors import InputError
from trainer.tensorboard.events import event_files
from trainer.tensorboard.hparams import write_experiment, write_session, write_session_end

METRICS = {"validation loss": ("validation", "epoch_loss")}
PARAMETERS = {
    "rate": float,
    "model": str,
    "flag": bool,
    "any": None,
    "units": summary_v2.Discrete([1, 2]),
}


def test_columns_have_types_and_some_come_first(tmp_path):
    write_experiment(tmp_path, PARAMETERS, METRICS, first=["model"])
    experiment, _ = read(tmp_path)
    found = [(info.name, api_pb2.DataType.Name(info.type)) for info in experiment.hparam_infos]
    assert found == [
        ("model", "DATA_TYPE_STRING"),
        ("any", "DATA_TYPE_UNSET"),
        ("flag", "DATA_TYPE_BOOL"),
        ("rate", "DATA_TYPE_FLOAT64"),
        ("units", "DATA_TYPE_FLOAT64"),
    ]
    (metric,) = experiment.metric_infos
    assert (metric.display_name, metric.name.group, metric.name.tag) == (
        "validation loss",
        "validation",
        "epoch_loss",
    )


def test_what_is_there_is_not_written_again_and_what_differs_replaces_it(tmp_path):
    run = tmp_path / "run" / "tensorboard"

    def written(rate, success):
        write_experiment(run, PARAMETERS, METRICS)
        write_session(run, "run", {"rate": rate})
        write_session_end(run, success)
        return event_files(run)

    first = written(0.5, True)
    assert len(first) == 3
    assert written(0.5, True) == first
    again = written(0.25, False)  # as when a run whose loss was not finite goes on
    assert len(again) == 3
    assert len(set(again) & set(first)) == 1  # the columns
    curve(run / "validation", "epoch_loss", [0.5, 0.125])
    _, groups = read(tmp_path)
    (session,) = groups["run"].sessions
    assert groups["run"].hparams["rate"].number_value == 0.25
    assert session.status == api_pb2.STATUS_FAILURE
    assert groups["run"].metric_values[0].value == 0.125


def test_tensorboard_reads_the_start_before_the_end(tmp_path):
    write_session(tmp_path, "run", {})
    write_session_end(tmp_path, True)
    assert [path.name.rpartition("_")[2] for path in event_files(tmp_path)] == ["start", "end"]


def test_no_value_is_refused(tmp_path):
    with pytest.raises(TypeError):
        write_session(tmp_path, "run", {"rate": None})


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        write_session(tmp_path / "file", "run", {})
