"""Reads back what TensorBoard's HParams page would show; for the tests of those who write it."""

from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.compat.proto import event_pb2
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups
from tensorboard.plugins.scalar import summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter


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
