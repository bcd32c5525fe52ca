import json
import re
from dataclasses import replace

import pytest
from run_directories import open_run

from data_pipeline.tiers.choice import ChosenTier
from tfrecords.errors import InputError
from tfrecords.manifest import Manifest
from trainer.config import FREE_TO_CHANGE, TrainConfig
from trainer.run import SEEDS_NAME, DataFacts, Run

FACTS = {"data": "chest_xray", "seed": "0"}


@pytest.fixture
def manifest(converted):
    return Manifest.load(converted)


@pytest.fixture
def config(converted, tmp_path):
    return TrainConfig(data=str(converted), run_dir=str(tmp_path / "runs" / "one"))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_is_opened_loaded_and_opened_again(config, manifest):
    run = open_run(config, manifest, FACTS, write=True)
    assert Run.load(run.folder) == run
    assert open_run(config, manifest, FACTS, write=True) == run
    assert run.data == DataFacts("chest_xray", ("NORMAL", "PNEUMONIA"), (24, 32, 1), manifest.plan)
    assert sorted(contents(run.folder)) == ["config.json"]
    assert (run.model.name, run.report("val").parts[-2:]) == ("model.keras", ("report", "val"))


def test_what_was_done_to_images_is_kept_and_left_out_where_it_is_the_default(config, manifest):
    run = open_run(config, manifest, FACTS, write=True)
    stored = json.loads((run.folder / "config.json").read_bytes())["data"]
    assert sorted(stored) == ["class_names", "image_shape", "name", "plan"]  # as versions before wrote it
    assert (run.data.resize, run.data.value_range) == ("stretch", "full")
    other = replace(manifest, resize="pad", value_range="0:4095")
    run = open_run(replace(config, run_dir=config.run_dir + "2"), other, FACTS, write=True)
    assert (run.data.resize, run.data.value_range) == ("pad", "0:4095")
    assert Run.load(run.folder) == run
    with pytest.raises(InputError, match="converted otherwise"):
        open_run(run.config, manifest, FACTS, write=True)


def test_a_run_that_was_moved_is_where_it_is_found(config, manifest, tmp_path):
    open_run(config, manifest, FACTS, write=True).folder.rename(tmp_path / "moved")
    moved = Run.load(tmp_path / "moved")
    assert moved.folder == tmp_path / "moved"
    assert open_run(moved.config, manifest, FACTS, write=True) == moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "mlp"}, "--model=cnn there, --model=mlp now"),
        ({"learning_rate": 0.01}, "--learning_rate=0.001 there, --learning_rate=0.01 now"),
        ({"global_batch_size": 64}, "--global_batch_size=32 there, --global_batch_size=64 now"),
        ({"seed": 1}, "--seed=0 there, --seed=1 now"),
        ({"schedule": "cosine"}, "--schedule=constant there, --schedule=cosine now"),
        ({"precision": "float32"}, "--precision=auto there, --precision=float32 now"),
        ({"deterministic": True}, "--deterministic=False there, --deterministic=True now"),
        ({"class_weights": True}, "--class_weights=False there, --class_weights=True now"),
        ({"last_batch": "drop"}, "--last_batch=wrap there, --last_batch=drop now"),
        ({"min_delta": 0.5}, "--min_delta=0.001 there, --min_delta=0.5 now"),
        (
            {"model_args": (("dropout", 0.2), ("units", 8))},
            "--model_args= there, --model_args=dropout=0.2,units=8 now",
        ),
        (
            {"model": "mlp", "seed": 3},
            "--model=cnn there, --model=mlp now; --seed=0 there, --seed=3 now",
        ),
    ],
)
@pytest.mark.parametrize("write", [True, False])
def test_another_configuration_is_refused_by_name_and_nothing_changes(
    config, manifest, changes, message, write, facts
):
    folder = open_run(config, manifest, FACTS, write=True).folder
    before = contents(folder)
    with pytest.raises(InputError) as error:
        open_run(config.changed(**changes), manifest, FACTS, write=write)
    assert re.search(
        facts(
            f"--run_dir={folder}: holds a run of another configuration ({message}); choose another "
            f"--run_dir, or give the same flags to resume"
        ),
        str(error.value),
    )
    assert contents(folder) == before


def test_a_file_of_weights_is_known_by_its_content(config, manifest):
    config = config.changed(sampling="a.csv", sampling_sha256="1" * 64)
    open_run(config, manifest, FACTS, write=True)
    open_run(config.changed(sampling="moved/b.csv"), manifest, FACTS, write=False)
    for changes, said in (
        ({"sampling_sha256": "2" * 64}, r"\(--sampling=a.csv: has other content now"),
        ({"sampling": "class", "sampling_sha256": ""}, r"\(--sampling=a.csv there, --sampling=class now\)"),
        (
            {"sampling": "natural", "sampling_sha256": ""},
            r"\(--sampling=a.csv there, --sampling=natural now\)",
        ),
    ):
        with pytest.raises(InputError, match=said):
            open_run(config.changed(**changes), manifest, FACTS, write=False)


def test_other_data_is_refused(config, manifest):
    open_run(config, manifest, FACTS, write=True)
    with pytest.raises(InputError, match=r"--data: chest_xray there, chest_xray now, or converted otherwise"):
        open_run(config, replace(manifest, plan="other"), FACTS, write=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 7},
        {"patience": 3},
        {"keep": 5},
        {"checkpoint_steps": 7, "checkpoint_minutes": 0.5},
        {"strategy": "mirrored", "devices": (0, 1)},
        {"strategy": "multi_worker"},
        {"logical_cpus": 2},
        {"data": "moved/elsewhere"},
        {"positive": "NORMAL"},  # it changes no weights; `finish` chooses the threshold
    ],
)
def test_how_long_and_on_which_devices_may_change(config, manifest, changes):
    open_run(config, manifest, FACTS, write=True)
    assert set(changes) <= FREE_TO_CHANGE | {"data"}
    run = open_run(config.changed(**changes), manifest, FACTS, write=True)
    assert Run.load(run.folder).config == config.changed(**changes)


def test_a_folder_of_other_things_is_refused_and_left_alone(config, manifest, tmp_path, facts):
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError) as error:
        open_run(config, manifest, FACTS, write=True)
    assert re.search(
        facts(f"--run_dir={folder}: is not empty and holds no run; choose a new or empty folder"),
        str(error.value),
    )
    assert contents(folder) == {"thesis.txt": b"all of it"}


def test_a_run_killed_in_its_first_moment_starts_again(config, manifest, tmp_path):
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / ".config.json.77.tmp").write_text("{")
    assert open_run(config, manifest, FACTS, write=True) == Run.load(folder)


def test_a_helping_worker_writes_nothing(config, manifest, tmp_path):
    open_run(config, manifest, FACTS, write=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(config, manifest, tmp_path, facts):
    (tmp_path / "file").write_text("in the way")
    for run_dir, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "x", "Not a directory")):
        with pytest.raises(InputError) as error:
            open_run(replace(config, run_dir=str(run_dir)), manifest, FACTS, write=True)
        assert re.search(facts(f"--run_dir={run_dir}: cannot be written: {reason}"), str(error.value))
    assert (tmp_path / "file").read_text() == "in the way"


def test_where_there_is_no_run_the_command_that_makes_one_is_shown(tmp_path, facts):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(InputError) as error:
            Run.load(folder)
        assert re.search(
            facts(
                f"--run_dir={folder}: no config.json there, so no run; make one with\n"
                f"  python -m trainer.main --data=DATA --run_dir={folder}"
            ),
            str(error.value),
        )


def _without(*names):
    def damage(values):
        for name in names[:-1]:
            values = values[name]
        del values[names[-1]]

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _without("config"),
        _without("config", "data"),
        _without("config", "devices"),
        _without("data", "plan"),
        _without("facts"),
        lambda values: values["config"].update(model="vgg"),
        lambda values: values["config"].update(unknown=1),
        lambda values: values.update(data=[]),
    ],
)
def test_a_damaged_configuration_is_named(config, manifest, damage):
    folder = open_run(config, manifest, FACTS, write=True).folder
    values = json.loads((folder / "config.json").read_text())
    damage(values)
    (folder / "config.json").write_text(json.dumps(values))
    for call in (lambda: Run.load(folder), lambda: open_run(config, manifest, FACTS, write=True)):
        with pytest.raises(InputError) as error:
            call()
        assert str(error.value).startswith(f"{folder / 'config.json'}: is damaged or of another version (")
        assert str(error.value).endswith("); train into another --run_dir")


def test_a_field_of_another_version_is_named_and_can_be_removed(config, manifest, facts):
    run = open_run(config, manifest, FACTS, write=True)
    path = run.folder / "config.json"
    values = json.loads(path.read_text())
    values["config"] |= {"parse_batch": 32, "magic": True}
    path.write_text(json.dumps(values))
    with pytest.raises(InputError) as error:
        Run.load(run.folder)
    assert re.search(
        facts(
            f"{path}: is damaged or of another version (it has 'magic', 'parse_batch', which this version "
            f"does not know: to go on without, remove it); train into another --run_dir"
        ),
        str(error.value),
    )
    del values["config"]["parse_batch"], values["config"]["magic"]
    path.write_text(json.dumps(values))
    assert open_run(config, manifest, FACTS, write=True) == run


def test_a_cut_configuration_is_named(config, manifest):
    path = open_run(config, manifest, FACTS, write=True).folder / "config.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="is damaged or of another version"):
        Run.load(path.parent)


@pytest.mark.parametrize(
    ("first", "now", "kept"),
    [
        ({}, {"cache": "off", "tuned": ("cache",)}, ("auto", ())),  # pipeline.json came after the run began
        ({"cache": "off", "tuned": ("cache",)}, {}, ("stream", ("cache",))),  # it went
        (
            {"cache": "off", "tuned": ("cache",)},
            {"cache": "memory", "tuned": ("cache",)},
            ("stream", ("cache",)),
        ),
        ({"cache": "disk"}, {"cache": "memory", "tuned": ("cache", "threads")}, ("auto", ("threads",))),
        ({"cache": "disk"}, {"cache": "memory"}, ("memory", ())),  # by its flag
    ],
)
def test_a_run_keeps_its_tier_whatever_becomes_of_pipeline_json(config, manifest, first, now, kept):
    begun = config.changed(**first)
    name = "stream" if begun.pipeline.cache == "stream" else "memory"
    run = open_run(begun, manifest, {}, write=True, tier=ChosenTier(name, 1, 1))
    found = run.kept(config.changed(prefetch=9, **now))
    assert (found.pipeline.cache, found.tuned) == kept
    assert found.pipeline.prefetch == 9  # changes the speed only
    assert run.kept(found) == found
    assert open_run(config.changed(prefetch=9, **now), manifest, {}, write=False).data == run.data


def test_the_folder_of_several_seeds_takes_no_other_training(config, manifest, facts, tmp_path):
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / SEEDS_NAME).write_text("{}")
    with pytest.raises(InputError, match=facts(f"--run_dir={folder}: --seeds --run_dir")):
        Run.stored(config, manifest)


def test_another_fold_is_another_run(config, manifest, facts):
    open_run(config.changed(fold="1/5", fold_of="here"), manifest, FACTS, write=True)
    assert Run.stored(config.changed(fold="1/5", fold_of="elsewhere"), manifest)
    with pytest.raises(InputError, match=facts("--fold=1/5 there, --fold=2/5 now")):
        Run.stored(config.changed(fold="2/5", fold_of="here"), manifest)
