import csv
import json

from trainer.callbacks.history import HistoryFiles


def test_history_files_hold_a_row_for_each_epoch(tmp_path):
    earlier = {"epoch": 1, "loss": 1 / 3, "val_loss": 0.5}
    history = HistoryFiles(tmp_path, [earlier])
    history.on_epoch_end(1, {"loss": 0.1, "val_loss": 0.2})
    assert (tmp_path / "history.csv").read_text() == (
        "epoch,loss,val_loss\n1,0.3333333333333333,0.5\n2,0.1,0.2\n"
    )
    history.on_epoch_end(2, {"loss": 1e-9, "val_loss": 0.0})
    rows = [earlier, {"epoch": 2, "loss": 0.1, "val_loss": 0.2}, {"epoch": 3, "loss": 1e-9, "val_loss": 0.0}]
    assert history.rows == rows
    assert json.loads((tmp_path / "history.json").read_text()) == rows
    with (tmp_path / "history.csv").open() as file:
        assert [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)] == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "history.json"]


def test_a_column_that_a_version_before_had_not_is_added(tmp_path):
    history = HistoryFiles(tmp_path, [{"epoch": 1, "loss": 0.5}])
    history.on_epoch_end(1, {"loss": 0.25, "weighted_loss": 0.125})
    expected = "epoch,loss,weighted_loss\n1,0.5,\n2,0.25,0.125\n"
    assert (tmp_path / "history.csv").read_text() == expected


def test_a_helping_worker_keeps_rows_but_writes_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = HistoryFiles(None)
    history.on_epoch_end(0, {"loss": 0.1})
    assert history.rows == [{"epoch": 1, "loss": 0.1}]
    assert list(tmp_path.iterdir()) == []
