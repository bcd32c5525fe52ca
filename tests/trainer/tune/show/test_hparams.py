import pytest
from sessions import curve, read
from tensorboard.plugins.hparams import api_pb2

from trainer.tensorboard.hparams import write_session, write_session_end
from trainer.tune.show.hparams import METRICS, write_experiment
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
