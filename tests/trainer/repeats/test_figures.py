import pytest

from trainer.repeats.figures import HEADLINES, in_words, spreads, table


def report(**values):
    estimates = {name: {"value": values.get(name)} for name in HEADLINES}
    other = {name: {"value": 0.0} for name in HEADLINES}
    return {"decisions": {"default": {"estimates": other}, "chosen": {"estimates": estimates}}}


def test_mean_deviation_and_range_of_the_chosen_decision():
    reports = [report(accuracy=value, auroc=0.5) for value in (0.9, 0.8, 0.7)]
    found = {each.name: each for each in spreads(reports, report(accuracy=0.95))}
    assert set(found) == {"accuracy", "auroc"}  # the others are undefined in all runs
    accuracy = found["accuracy"].to_json()
    assert accuracy["values"] == [0.9, 0.8, 0.7]
    assert (accuracy["mean"], accuracy["deviation"]) == pytest.approx((0.8, 0.1))
    assert (accuracy["least"], accuracy["most"], accuracy["averaged"]) == (0.7, 0.9, 0.95)
    assert found["auroc"].to_json()["deviation"] == 0
    assert found["auroc"].averaged is None


def test_a_metric_that_is_undefined_in_one_run():
    (found,) = spreads([report(accuracy=0.9), report()])
    assert (found.values, found.deviation) == ((0.9,), 0.0)


def test_the_table_has_a_line_for_each_metric():
    found = spreads([report(accuracy=0.9, auroc=1.0), report(accuracy=0.8, auroc=0.5)], report(accuracy=0.85))
    text = table(found, "test", (3, 7)).splitlines()
    assert text[0] == "test of seeds 3, 7:"
    assert text[2].split() == ["Accuracy", "0.8500", "0.0707", "0.8000", "0.9000", "0.8500"]
    assert text[3].split() == ["AUROC", "0.7500", "0.3536", "0.5000", "1.0000", "-"]
    assert "0.8000 to 0.9000" in in_words(found)
