import numpy as np
import pytest
from reports import PICTURES, drawn

from trainer.evaluation.intervals import point_values
from trainer.evaluation.summaries import write_summaries


@pytest.mark.slow
@pytest.mark.parametrize(("names", "shown"), [(("A", "B"), ["B"]), (("A", "B", "C"), ["A", "B", "C"])])
def test_tensorboard_reads_the_summaries_back(tmp_path, names, shown):
    from tensorboard.backend.event_processing import plugin_event_multiplexer
    from tensorboard.plugins.pr_curve import metadata
    from tensorboard.util import tensor_util

    predictions = drawn(names=names)
    predictions.probabilities[:20] = [0.5, *[0.5 / (len(names) - 1)] * (len(names) - 1)]  # At a threshold.
    threshold = 0.4 if len(names) == 2 else None
    write_summaries(tmp_path / "run", split="test", predictions=predictions, threshold=threshold, epoch=70)
    read = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()

    def content(tag):
        (event,) = read.Tensors("run", tag)
        assert event.step == 70
        return tensor_util.make_ndarray(event.tensor_proto)

    scalars = read.PluginRunToTagToContent("scalars")["run"]
    values = point_values(predictions, threshold)
    assert {tag: float(content(tag)) for tag in scalars} == pytest.approx(
        {f"test/report/{name}": value for name, value in values.items()}, abs=1e-6
    )
    images = read.PluginRunToTagToContent("images")["run"]
    assert set(images) == {f"test/report/{name[:-4]}" for name in PICTURES - {"training_curves.png"}}
    assert all(content(tag)[2].startswith(b"\x89PNG") for tag in images)
    curves = read.PluginRunToTagToContent(metadata.PLUGIN_NAME)["run"]
    assert set(curves) == {f"test/{name}/pr_curves" for name in shown}
    for name in shown:
        index = names.index(name)
        truth, scores = predictions.labels == index, predictions.probabilities[:, index]
        table = content(f"test/{name}/pr_curves")
        assert table.shape == (6, 201)
        for column, at in ((0, 0.0), (50, 0.25), (100, 0.5), (137, 0.685), (200, 1.0)):
            predicted = scores >= at
            tp, fp = (predicted & truth).sum(), (predicted & ~truth).sum()
            expected = [tp, fp, (~predicted & ~truth).sum(), (~predicted & truth).sum()]
            rates = [tp / max(predicted.sum(), 1), tp / truth.sum()]
            np.testing.assert_allclose(table[:, column], [*expected, *rates], rtol=1e-6)
        parsed = metadata.parse_plugin_metadata(curves[f"test/{name}/pr_curves"])
        assert parsed.num_thresholds == 201
    described = read.SummaryMetadata("run", "test/report/sensitivity").summary_description
    of = shown[0] if len(shown) == 1 else "the class"
    averaged = ", averaged over the classes" * (len(shown) > 1)
    assert described == f"share of the records of {of} that are predicted as {of}{averaged}"
