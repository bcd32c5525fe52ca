"""A search on TensorBoard's HParams page, beside the curves of its runs.

The files hold TensorBoard's own messages but are not written by its writer: where TensorFlow is installed,
that writer imports it, which takes seconds, and starts a thread.
"""

import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter

from tfrecords.errors import InputError
from tfrecords.files import publish
from trainer.evaluation.metric_table import OF_AN_EPOCH
from trainer.tune.show.overview import Parameter, Value

# Shown name: subfolder and tag of the curves that a run writes.
METRICS: Final[Mapping[str, tuple[str, str]]] = {
    f"{phase} {metric.name}": (phase, f"epoch_{metric.name}")
    for phase in ("validation", "train")
    for metric in OF_AN_EPOCH
}
_EXPERIMENT: Final = "hparams_experiment"  # how the file names end
_START: Final = "hparams_start"
_END: Final = "hparams_end"


def write_experiment(
    folder: Path, parameters: Sequence[Parameter], metrics: Sequence[str] = tuple(METRICS)
) -> None:
    """Writes which hyperparameters are searched and which metrics are shown, unless the file exists.

    Args:
        folder: of the search, above the folders of all sessions; it need not exist.
        parameters: the hyperparameters that are searched.
        metrics: keys of `METRICS`.

    Raises:
        InputError: it cannot be written.
    """
    searched = [summary_v2.HParam(parameter.name, _domain(parameter)) for parameter in parameters]
    judged = [
        summary_v2.Metric(tag, group=group, display_name=name)
        for name, (group, tag) in ((name, METRICS[name]) for name in metrics)
    ]
    _write(folder, _EXPERIMENT, summary_v2.hparams_config_pb(searched, judged, time.time()))


def write_session(folder: Path, name: str, values: Mapping[str, Value]) -> None:
    """Writes that a run has begun, unless the file exists.

    Args:
        folder: of the run's TensorBoard files, with the subfolders `train` and `validation`; it need not
            exist.
        name: of the trial. Sessions of the same name are its executions; HParams can show their mean.
        values: of the hyperparameters that are searched and active.

    Raises:
        InputError: it cannot be written.
    """
    _write(folder, _START, summary_v2.hparams_pb(dict(values), trial_id=name))


def write_session_end(folder: Path, success: bool) -> None:
    """Writes that a run has ended, unless the file exists.

    Args:
        folder: as for `write_session`.
        success: whether it succeeded.

    Raises:
        InputError: it cannot be written.
    """
    status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
    ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    # TensorBoard's own function for this is in a module that imports TensorFlow.
    summary = event_pb2.Event().summary
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended)),
        tensor=metadata.NULL_TENSOR,
    )
    _write(folder, _END, summary)


def _domain(parameter: Parameter) -> Any:
    """Returns the domain; None for a choice among values of several types, which HParams does not support."""
    if parameter.kind == "boolean":
        return summary_v2.Discrete([False, True])
    if parameter.kind == "choice":
        types = {type(value) for value in parameter.values}
        if types == {int, float}:
            return summary_v2.Discrete([float(value) for value in parameter.values])
        return summary_v2.Discrete(parameter.values) if len(types) == 1 else None
    low, high = parameter.values
    if parameter.kind == "int":
        return summary_v2.IntInterval(low, high)
    return summary_v2.RealInterval(float(low), float(high))


def _write(folder: Path, kind: str, summary: Any) -> None:
    """Writes an event file with one summary, unless there is one of its kind."""
    if any(folder.glob(f"events.out.tfevents.*.{kind}")):
        return
    data, now = io.BytesIO(), time.time()
    writer = RecordWriter(data)
    for event in (
        event_pb2.Event(wall_time=now, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=now, step=0, summary=summary),
    ):
        writer.write(event.SerializeToString())
    # TensorBoard reads the files of a folder in the order of their names and never returns to an earlier one.
    name = f"{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}.{kind}"
    temporary = folder / f".{name}.tmp"  # no event file by its name, so TensorBoard does not read half a file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data.getvalue())
        publish(temporary, folder / f"events.out.tfevents.{name}")
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise InputError(f"{folder}: cannot be written: {error.strerror}; make room") from None
