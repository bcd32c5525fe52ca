import json
from dataclasses import replace

import pytest

from tfrecords.errors import InputError
from trainer.run import DataFacts
from trainer.tune.search import SEARCH_NAME, Search

CONDITIONAL = (
    "model: {type: choice, values: [cnn, resnet]}\n"
    "model_args: {width: {type: int, min: 8, max: 16, when: {model: resnet}}}\n"
)


@pytest.fixture
def saved(make_search, tmp_path):
    """Makes a search that is written down."""

    def saved(**options):
        folder = tmp_path / "search"
        folder.mkdir(exist_ok=True)
        search = make_search(folder, **options)
        search.save()
        return search

    return saved


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"oracle": "hyperband", "epochs": 27, "factor": 4, "seed": 5, "max_failures": 0},
        {"objective": "val_auc", "executions_per_trial": 3, "initial_random": 4, "final": "none"},
    ],
)
def test_what_is_saved_is_loaded(saved, options):
    search = saved(**options)
    assert Search.load(search.folder) == search


def test_all_fields_are_kept(saved, tmp_path):
    (tmp_path / "space.yaml").write_text(CONDITIONAL)
    search = saved(space=str(tmp_path / "space.yaml"))
    config = replace(
        search.config,
        data_url="s3://bucket/data",
        devices=(1,),
        model_args=(("dropout", 0.5), ("units", 8)),
        class_weights=True,
        learning_rate=1e-4,
    )
    search = replace(search, config=config, brackets=34, initial_points=7)
    search.save()
    assert Search.load(search.folder) == search
    assert Search.load(search.folder).parameters == search.parameters


def test_the_folder_may_move(saved, tmp_path):
    search = saved()
    moved = search.folder.rename(tmp_path / "moved")
    assert Search.load(moved) == replace(search, folder=moved)


def test_where_things_are(make_search, tmp_path):
    search = make_search(tmp_path)
    assert search.trial(7) == tmp_path / "trials" / "0007"
    assert search.claim("ask") == tmp_path / "claims" / "ask"
    assert search.journal.read() == []


def test_none_there(tmp_path, facts):
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(
            InputError, match=facts(f"--search_dir={folder}: no {SEARCH_NAME} there")
        ) as error:
            Search.load(folder)
        assert f"python -m trainer.tune --data=DATA --search_dir={folder}" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: json.dumps({**json.loads(text), "version": 2}),
        lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != "space"}),
        lambda text: text.replace('"oracle"', '"orakel"'),
        lambda text: text.replace('"val_loss"', '"val_less"'),
        lambda text: text.replace('"learning_rate": 0.001', '"learning_rate": -1'),
        lambda text: text.replace('"epochs"', '"epoch"'),
        lambda text: json.dumps({**json.loads(text), "data": {"name": "x"}}),
    ],
)
def test_a_damaged_search_is_named(saved, change, facts):
    path = saved().folder / SEARCH_NAME
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=facts(f"{path}: begin in another --search_dir")):
        Search.load(path.parent)


def test_no_text_is_named(saved, facts):
    path = saved().folder / SEARCH_NAME
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=facts(f"{path}: begin in another --search_dir")):
        Search.load(path.parent)


def test_a_folder_that_cannot_be_written_is_named(make_search, tmp_path, facts):
    with pytest.raises(InputError, match=facts(f"{tmp_path / 'none' / SEARCH_NAME}")):
        make_search(tmp_path / "none").save()


def test_a_journal_of_another_version_is_named(make_search, facts):
    search = make_search()
    for event in ({"event": "created"}, {"event": "ended", "trial": 3}):
        with pytest.raises(InputError, match=facts("another --search_dir")):
            search.order([event])


@pytest.mark.parametrize(
    ("there", "now", "told"),
    [
        ({}, {"oracle": "random"}, ("--oracle=bayesian", "--oracle=random")),
        ({}, {"objective": "val_auc"}, ("--objective=val_loss", "--objective=val_auc")),
        ({}, {"executions_per_trial": 2}, ("--executions_per_trial=1", "--executions_per_trial=2")),
        (
            {"oracle": "hyperband"},
            {"oracle": "hyperband", "factor": 4},
            ("--factor=3", "--factor=4"),
        ),
        ({"initial_random": 3}, {"initial_random": 4}, ("--initial_random=3", "--initial_random=4")),
        ({}, {"parallel": 1}, ("--parallel=4", "--parallel=1")),
        ({}, {"seed": 1}, ("--seed=0", "--seed=1")),
        ({}, {"epochs": 10}, ("--epochs=9", "--epochs=10")),
    ],
)
def test_another_search_is_refused_with_both_values(make_search, there, now, told):
    with pytest.raises(InputError) as error:
        make_search(**there).continued(make_search(**now))
    for word in ("--search_dir=search", *told):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "best_cnn"),
        ("model_args", (("units", 8),)),
        ("patience", 3),
        ("min_delta", 0.5),
        ("global_batch_size", 8),
        ("learning_rate", 0.5),
        ("schedule", "cosine"),
        ("precision", "bfloat16"),
        ("class_weights", True),
        ("last_batch", "drop"),
        ("copies", "one"),
        ("augment", "light"),
        ("deterministic", True),
        ("strategy", "mirrored"),
        ("logical_cpus", 2),
        ("cache", "stream"),
        ("threads_per_process", 2),
    ],
)
def test_other_trials_are_refused_with_both_values(make_search, name, value):
    search = make_search()
    search = replace(search, config=search.config.changed(precision="float32", cache="disk"))
    asked = replace(search, config=search.config.changed(**{name: value}))
    before, after = search.config.to_json()[name], asked.config.to_json()[name]
    with pytest.raises(InputError) as error:
        search.continued(asked)
    assert f"--{name}={before} there" in str(error.value)
    assert f"--{name}={after} now" in str(error.value)


def test_other_data_and_another_space_are_refused(make_search, tmp_path):
    search = make_search()
    other = replace(search, data=DataFacts("other", ("a", "b"), (8, 8, 1), "plan"))
    with pytest.raises(InputError, match=r"--data: drawn .* other"):
        search.continued(other)
    again = replace(search, data=replace(search.data, plan="another plan"))
    with pytest.raises(InputError, match=r"--data: drawn"):
        search.continued(again)
    path = tmp_path / "space.yaml"
    path.write_text(CONDITIONAL)
    with pytest.raises(InputError) as error:
        search.continued(make_search(space=str(path)))
    assert "--space=notebook" in str(error.value)
    assert f"--space={path}" in str(error.value)


def test_all_that_changed_is_told_at_once(make_search):
    with pytest.raises(InputError) as error:
        make_search().continued(make_search(seed=3, parallel=2, epochs=5))
    for name in ("--seed", "--parallel", "--epochs"):
        assert name in str(error.value)


def test_a_space_under_another_name_is_the_same(make_search):
    search = make_search()
    found = search.continued(replace(search, space_name="copy.yaml"))
    assert found.space == search.space


def test_how_long_and_what_is_kept_may_change(make_search):
    asked = make_search(max_trials=50, max_failures=0, keep_trials="all", final="reload")
    found = make_search().continued(asked)
    assert found.options == asked.options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", "elsewhere"),
        ("data_url", "s3://bucket/data"),
        ("devices", (1,)),
        ("keep", 5),
        ("checkpoint_steps", 10),
        ("checkpoint_minutes", 1.0),
        ("ram_budget", 1 << 30),
        ("cache_dir", "fast"),
        ("prefetch", 9),
        ("parallel_reads", 3),
        ("threads", 2),
    ],
)
def test_what_is_of_the_machine_may_change(make_search, name, value):
    search = make_search()
    found = search.continued(replace(search, config=search.config.changed(**{name: value})))
    assert found == replace(search, config=search.config.changed(**{name: value}))


def test_what_was_chosen_at_the_first_start_stays(make_search):
    """The flags still say auto; the trials have what that became."""
    asked = make_search()
    asked = replace(asked, config=asked.config.changed(precision="auto", cache="auto", threads_per_process=0))
    config = asked.config.changed(precision="float32", cache="disk", threads_per_process=3)
    search = replace(asked, config=config, brackets=34, keras_tuner="1.4.7")
    assert search.continued(asked) == search


def test_what_depends_on_the_number_of_trials_stays(make_search):
    """More trials, given later, change nothing of what was proposed."""
    search = make_search(max_trials=8, initial_random=3)
    found = search.continued(make_search(max_trials=80))
    assert (found.initial_points, found.options.initial_random) == (3, 3)
    assert make_search(max_trials=8).continued(make_search(max_trials=80)).initial_points == 2
