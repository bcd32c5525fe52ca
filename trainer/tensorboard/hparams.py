"""What TensorBoard's HParams plugin reads: one experiment (the columns) and sessions (the rows).

The files are written with the plugin's own messages; see `events` for why not with its writer.
"""

import time
from collections.abc import Collection, Mapping
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


_TYPES: Final = {
    bool: api_pb2.DATA_TYPE_BOOL,
    float: api_pb2.DATA_TYPE_FLOAT64,
    str: api_pb2.DATA_TYPE_STRING,
}


def write_experiment(
    folder: Path, parameters: Mapping[str, Any], metrics: Metrics, *, first: Collection[str] = ()
) -> None:
    """Writes the columns of the page; does nothing if the same are there.

    TensorBoard takes the columns of the first experiment that it finds below its --logdir.

    Args:
        folder: the folder of the sessions, or one above; need not be there.
        parameters: which values each may have, by name: a domain of `summary_v2`; or bool, float or str for
            all values of that type (float for whole numbers too); None: values of several types.
        metrics: what sessions are compared by.
        first: parameters that come before the others; TensorBoard sorts both by name.

    Raises:
        InputError: it cannot be written.
    """
    experiment = api_pb2.Experiment(
        hparam_infos=[_column(name, domain, name in first) for name, domain in parameters.items()],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(group=group, tag=tag), display_name=name)
            for name, (group, tag) in metrics.items()
        ],
        time_created_secs=time.time(),
    )
    summary = _summary(metadata.EXPERIMENT_TAG, experiment=experiment)
    write_summary(folder, _EXPERIMENT, summary, _content)


def _column(name: str, domain: Any, first: bool) -> Any:
    info = api_pb2.HParamInfo(name=name, differs=first)
    if isinstance(domain, type):
        info.type = _TYPES[domain]
    elif domain is not None:
        domain.update_hparam_info(info)
    return info


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
    write_summary(folder, _END, _summary(metadata.SESSION_END_INFO_TAG, session_end_info=ended), _content)


def _summary(tag: str, **message: Any) -> Any:
    """Returns a summary that holds one message; TensorBoard's own function for this imports TensorFlow."""
    summary = event_pb2.Event().summary
    summary.value.add(
        tag=tag,
        metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**message)),
        tensor=metadata.NULL_TENSOR,
    )
    return summary


def _content(summary: Any) -> Any:
    """Returns what a summary tells the plugin, without the time at which it was made."""
    data = plugin_data_pb2.HParamsPluginData.FromString(summary.value[0].metadata.plugin_data.content)
    part = data.WhichOneof("data")
    getattr(data, part).ClearField(_TIMES[part])
    return data
