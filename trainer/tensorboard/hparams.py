"""What TensorBoard's HParams plugin reads: one experiment (the columns) and sessions (the rows).

The files are written with the plugin's own messages; see `events` for why not with its writer.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2

from trainer.tensorboard.events import write_summary

Value = bool | int | float | str
# The name of a metric for people; the subfolder of a session's folder, and the tag, of its scalars.
Metrics = Mapping[str, tuple[str, str]]
_EXPERIMENT: Final = "hparams_experiment"  # how the file names end
_START: Final = "hparams_start"
_END: Final = "hparams_end"
_TIMES: Final = {  # the field of each message that says when it was made
    "experiment": "time_created_secs",
    "session_start_info": "start_time_secs",
    "session_end_info": "end_time_secs",
}


class OfType:
    """The domain of a parameter of which only the type is known: "string", "bool" or "float64"."""

    def __init__(self, kind: str) -> None:
        self._type = api_pb2.DataType.Value(f"DATA_TYPE_{kind.upper()}")

    def update_hparam_info(self, info: Any) -> None:
        """Is what `summary_v2.HParam` asks of a domain."""
        info.type = self._type


def write_experiment(folder: Path, parameters: Mapping[str, Any], metrics: Metrics) -> None:
    """Writes the columns of the page; does nothing if the same are there.

    TensorBoard takes the columns of the first experiment that it finds below its --logdir.

    Args:
        folder: the folder of the sessions, or one above; need not be there.
        parameters: the domain of each, by name: one of `summary_v2`, an `OfType`, or None.
        metrics: what sessions are compared by.

    Raises:
        InputError: it cannot be written.
    """
    columns = [summary_v2.HParam(name, domain) for name, domain in parameters.items()]
    judged = [
        summary_v2.Metric(tag, group=group, display_name=name) for name, (group, tag) in metrics.items()
    ]
    write_summary(folder, _EXPERIMENT, summary_v2.hparams_config_pb(columns, judged, time.time()), _content)


def write_session(folder: Path, name: str, values: Mapping[str, Value]) -> None:
    """Writes that a run has begun, and with which values; does nothing if the same is there.

    Args:
        folder: the folder above those of the run's scalars, `train` and `validation`; need not be there.
        name: the row's name. Sessions of one name are executions of one trial; HParams can show their mean.
        values: the run's parameters by name. None is no value: it breaks the plugin.

    Raises:
        InputError: it cannot be written.
    """
    write_summary(folder, _START, summary_v2.hparams_pb(dict(values), trial_id=name), _content)


def write_session_end(folder: Path, success: bool) -> None:
    """Writes that a run has ended; does nothing if the same is there.

    Args:
        folder: as for `write_session`.
        success: whether it has ended well.

    Raises:
        InputError: it cannot be written.
    """
    status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
    ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    # TensorBoard has a function for this, in a module that imports TensorFlow.
    summary = event_pb2.Event().summary
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended)),
        tensor=metadata.NULL_TENSOR,
    )
    write_summary(folder, _END, summary, _content)


def _content(summary: Any) -> Any:
    """Returns what a summary tells the plugin, without the time at which it was made."""
    data = plugin_data_pb2.HParamsPluginData.FromString(summary.value[0].metadata.plugin_data.content)
    part = data.WhichOneof("data")
    getattr(data, part).ClearField(_TIMES[part])
    return data
