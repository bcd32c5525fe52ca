import pytest
from sessions import curve, read

from trainer.config import TrainConfig
from trainer.models.registry import MODELS
from trainer.tensorboard.comparison import METRICS, values_of, write_run

CONFIG = TrainConfig.of(data="here", run_dir="runs/a", model="mlp", model_args=(("units", 64),), seed=3)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_has_the_arguments_of_its_model_and_no_other(model):
    values = values_of(TrainConfig(data="", run_dir="", model=model), "data", "float32")
    arguments = {name.removeprefix("model_args."): value for name, value in values.items() if "." in name}
    assert arguments == MODELS[model].args
    assert not [name for name, value in values.items() if value is None]
    assert (values["model"], values["data"], values["precision"]) == (model, "data", "float32")


def test_given_arguments_are_shown():
    assert values_of(CONFIG, "", "")["model_args.units"] == 64


def test_runs_are_compared(tmp_path):
    for name, config in {
        "a": CONFIG,
        "b": CONFIG.changed(run_dir="runs/b", model="cnn", model_args=()),
    }.items():
        folder = tmp_path / name / "tensorboard"
        for _ in range(2):  # as after a resume
            write_run(folder, config, "chest_xray", "mixed_bfloat16")
        curve(folder / "validation", "best_epoch/loss", [0.75, 0.5])
        curve(folder / "report", "test/report/auroc", [0.875])
    experiment, groups = read(tmp_path)
    columns = [info.name for info in experiment.hparam_infos]
    assert columns[:5] == ["augment", "global_batch_size", "learning_rate", "model", "seed"]
    assert {info.name.tag for info in experiment.metric_infos} == {tag for _, tag in METRICS.values()}
    assert set(groups) == {"runs/a", "runs/b"}
    values = {name: groups["runs/a"].hparams[name] for name in groups["runs/a"].hparams}
    assert set(values) <= set(columns)
    assert values["seed"].number_value == 3
    assert values["precision"].string_value == "mixed_bfloat16"
    assert values["class_weights"].bool_value is False
    assert "model_args.filters_1" in groups["runs/b"].hparams
    assert "model_args.filters_1" not in values
    for group in groups.values():
        assert len(group.sessions) == 1
        found = {each.name.tag: each.value for each in group.metric_values}
        assert found == {"best_epoch/loss": 0.5, "test/report/auroc": 0.875}
