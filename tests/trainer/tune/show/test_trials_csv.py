import csv
import io

from trainer.tune.show.overview import Overview, Parameter, Row
from trainer.tune.show.trials_csv import trials_csv

PARAMETERS = (
    Parameter("learning_rate", "float", (1e-4, 1e-2), True),
    Parameter("model_args.kernel", "choice", (3, 5)),
    Parameter("optimizer", "choice", ("adam", "a, b")),
    Parameter("augment", "boolean", (False, True)),
)


def search(*rows):
    return Overview("s", {}, "random", "val_loss", "min", PARAMETERS, rows, 0, False, None, None, "")


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_search_without_trials_has_a_header():
    head = "number,state,score,epochs,most_epochs,seconds,by,goes_on_with,seeds"
    names = "learning_rate,model_args.kernel,optimizer,augment"
    assert trials_csv(search()) == f"{head},{names},message\n"


def test_values_are_exact_and_what_is_not_there_is_empty():
    values = {"learning_rate": 0.1 + 0.2, "optimizer": "a, b", "augment": True}
    done = Row(0, values, "promoted", 4, (3, 4), "done", 1 / 3, 9, 9, 12.25, 1.0, 2.0)
    message = 'OOM, "too large"\nlast lines'
    failed = Row(
        1, {"model_args.kernel": 5}, "drawn", None, (5,), "failed", None, 0, 9, 1.0, 1.0, 2.0, message
    )
    first, second = read(trials_csv(search(done, failed)))
    assert float(first["score"]) == 1 / 3
    assert float(first["learning_rate"]) == 0.1 + 0.2
    told = [first[name] for name in ("number", "goes_on_with", "seeds", "optimizer", "augment", "message")]
    assert told == ["0", "4", "3 4", "a, b", "True", ""]
    assert first["model_args.kernel"] == ""
    assert second["message"] == 'OOM, "too large"'
    assert [second[name] for name in ("score", "goes_on_with", "learning_rate")] == ["", "", ""]
    assert second["model_args.kernel"] == "5"
