import os
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.compat.proto import event_pb2
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups
from tensorboard.plugins.scalar import summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter

from tfrecords.errors import InputError
from trainer.tune.show.hparams import METRICS, write_experiment, write_session, write_session_end
from trainer.tune.show.overview import Parameter

PARAMETERS = (
    Parameter("learning_rate", "float", (1e-4, 1e-2), True),
    Parameter("filters", "int", (32, 128)),
    Parameter("kernel", "choice", (3, 5)),
    Parameter("optimizer", "choice", ("sgd", "adam")),
    Parameter("augment", "boolean", (False, True)),
    Parameter("dropout", "choice", (0, 0.5)),
    Parameter("mixed", "choice", ("none", 2)),
)
VALUES = {"learning_rate": 1e-3, "filters": 64, "kernel": 5, "optimizer": "adam", "augment": True}


def curve(folder, tag, values):
    """What Keras' TensorBoard callback writes."""
    folder.mkdir(parents=True)
    with (folder / "events.out.tfevents.1.host.1.0.v2").open("wb") as file:
        writer = RecordWriter(file)
        for step, value in enumerate(values):
            event = event_pb2.Event(wall_time=step + 1, step=step, summary=summary_v2.scalar_pb(tag, value))
            writer.write(event.SerializeToString())


def read(folder):
    """The experiment and the session groups, as the HParams plugin answers its page."""
    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(folder))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider, logdir=str(folder)))
    request = RequestContext()
    tags = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(
        request, "", True, tags, context.hparams_from_data_provider(request, "", 0)
    )
    wanted = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        aggregation_type=api_pb2.AGGREGATION_AVG,
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_UNKNOWN],
        col_params=[api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos],
    )
    handler = list_session_groups.Handler(request, context, "", wanted)
    return experiment, {group.name: group for group in handler.run().session_groups}


def event_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_tensorboard_finds_the_sessions_and_their_curves(tmp_path):
    write_experiment(tmp_path, PARAMETERS)
    for number, success in enumerate((True, False, None)):
        folder = tmp_path / "trials" / f"{number}" / "tensorboard"
        write_session(folder, f"trial {number}", VALUES if number == 0 else {"kernel": 3})
        curve(folder / "validation", "epoch_loss", [0.5, 0.25 + number])
        curve(folder / "train", "epoch_loss", [0.4, 0.125])
        if success is not None:
            write_session_end(folder, success)
    experiment, groups = read(tmp_path)
    assert {info.name for info in experiment.hparam_infos} == {one.name for one in PARAMETERS}
    assert [(info.name.group, info.name.tag) for info in experiment.metric_infos] == list(METRICS.values())
    assert list(groups) == ["trial 0", "trial 1", "trial 2"]
    statuses = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_UNKNOWN]
    assert [group.sessions[0].status for group in groups.values()] == statuses
    found = groups["trial 0"]
    assert found.hparams["learning_rate"].number_value == 1e-3
    assert found.hparams["optimizer"].string_value == "adam"
    assert found.hparams["augment"].bool_value is True
    assert set(groups["trial 1"].hparams) == {"kernel"}
    last = {(value.name.group, value.name.tag): value.value for value in found.metric_values}
    assert last == {("validation", "epoch_loss"): 0.25, ("train", "epoch_loss"): 0.125}


def test_executions_of_a_trial_are_one_group(tmp_path):
    write_experiment(tmp_path, PARAMETERS)
    for execution, loss in enumerate((0.5, 1.0)):
        folder = tmp_path / f"seed{execution}"
        write_session(folder, "trial 0", VALUES)
        curve(folder / "validation", "epoch_loss", [loss])
    _, groups = read(tmp_path)
    assert len(groups["trial 0"].sessions) == 2
    assert groups["trial 0"].metric_values[0].value == 0.75


@pytest.mark.parametrize(
    ("name", "kind", "domain"),
    [
        ("learning_rate", "DATA_TYPE_FLOAT64", (1e-4, 1e-2)),
        ("filters", "DATA_TYPE_FLOAT64", (32, 128)),
        ("kernel", "DATA_TYPE_FLOAT64", [3, 5]),
        ("optimizer", "DATA_TYPE_STRING", ["adam", "sgd"]),
        ("augment", "DATA_TYPE_BOOL", [False, True]),
        ("dropout", "DATA_TYPE_FLOAT64", [0, 0.5]),
        ("mixed", "DATA_TYPE_UNSET", []),
    ],
)
def test_domains(tmp_path, name, kind, domain):
    write_experiment(tmp_path, [one for one in PARAMETERS if one.name == name], ["validation loss"])
    experiment, _ = read(tmp_path)
    (info,) = experiment.hparam_infos
    assert api_pb2.DataType.Name(info.type) == kind
    if isinstance(domain, tuple):
        assert (info.domain_interval.min_value, info.domain_interval.max_value) == domain
    else:
        assert list(info.domain_discrete) == domain
    assert len(experiment.metric_infos) == 1


def test_what_is_there_is_not_written_again(tmp_path):
    for _ in range(2):
        write_experiment(tmp_path, PARAMETERS)
        write_session(tmp_path / "a", "trial 0", VALUES)
        write_session_end(tmp_path / "a", True)
        write_session_end(tmp_path / "a", False)
    files = event_files(tmp_path)
    assert len(files) == 3
    assert all("tfevents" in path.name for path in files)
    start, end = event_files(tmp_path / "a")
    assert "start" in start.name  # TensorBoard reads them in this order
    assert "end" in end.name


@pytest.mark.not_root
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=str(tmp_path)):
        write_session(tmp_path, "trial 0", VALUES)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        write_session(tmp_path / "file", "trial 0", VALUES)


def test_tensorflow_is_not_imported(tmp_path):
    code = (
        "import sys, pathlib; from trainer.tune.show.hparams import *; folder = pathlib.Path(sys.argv[1]);"
        "write_experiment(folder, []); write_session(folder, 'a', {'b': 1}); write_session_end(folder, True);"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
    assert len(event_files(tmp_path)) == 3
