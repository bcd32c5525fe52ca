"""Ways to write the shards of a plan: processes on this machine, Apache Beam, or the tasks of an array job.

All of them write the same bytes, because a shard follows from its job alone. Beside each shard they leave its
result. The conversion then reads the results and writes the manifest.
"""

import hashlib
import importlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tfrecords.convert.shards import RESULT_SUFFIX, Rendering, ShardJob, write_shards
from tfrecords.errors import InputError
from tfrecords.pool import Pool

ENGINES: Final = ("local", "beam")
_SHOWN: Final = 10  # missing shards that are named


@dataclass(frozen=True)
class Engine:
    """What writes the shards.

    Attributes:
        name: "local": processes on this machine; "beam": the Apache Beam runner in `beam_args`.
        beam_args: the flags of Apache Beam, as on a command line.
        task: (I, N): only the shards I, I + N, I + 2 N ... of the plan are written, and no manifest.
        finish: write no shard, only the manifest, for shards that tasks have written.

    Raises:
        InputError: an unknown name, an impossible task, or two ways at once.
    """

    name: str = "local"
    beam_args: str = ""
    task: tuple[int, int] | None = None
    finish: bool = False

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise InputError(f"--engine={self.name}: must be one of {', '.join(ENGINES)}")
        if self.beam_args and self.name != "beam":
            raise InputError(
                f"--beam_args={self.beam_args}: need --engine=beam; add it, or leave out --beam_args"
            )
        if self.task is not None and not 0 <= self.task[0] < self.task[1]:
            raise InputError(
                f"--task={self.task[0]}/{self.task[1]}: must be I/N with I from 0 to N - 1, as 0/8 to 7/8"
            )
        if self.task is not None and (self.finish or self.name == "beam"):
            raise InputError(
                "--task with --finish or --engine=beam: a task uses the cores of its own machine, and "
                "--finish comes once, after all tasks; leave one of them out"
            )
        if self.finish and self.name == "beam":
            raise InputError(
                "--finish with --engine=beam: beam finishes the conversion itself; leave --finish out"
            )


def parse_task(text: str) -> tuple[int, int]:
    """Returns (I, N) from `I/N`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match:
        raise InputError(f"--task={text}: must be I/N with I from 0 to N - 1, as 0/8 to 7/8")
    return int(match[1]), int(match[2])


def jobs_of(task: tuple[int, int], jobs: Sequence[ShardJob]) -> list[ShardJob]:
    """Returns the jobs of a task (I, N): those with index I modulo N in the plan."""
    return list(jobs[task[0] :: task[1]])


def write_with_beam(
    root: Path,
    out: Path,
    jobs: Sequence[ShardJob],
    rendering: Rendering,
    *,
    beam_args: str,
    max_rejects: int,
    rejected: Sequence[tuple[str, str]],
) -> None:
    """Writes the missing shards with Apache Beam; each shard job is one element.

    Beam's workers must see both folders under the same paths, and must have this package installed. All jobs
    are in the pipeline's graph, so a runner that limits the size of a graph limits the images of a
    conversion.

    Args:
        root: as for `write_shards`.
        out: as for `write_shards`.
        jobs: as for `write_shards`.
        rendering: as for `write_shards`.
        beam_args: the flags of Beam.
        max_rejects: as for `write_shards`, but checked for each shard by itself.
        rejected: as for `write_shards`.

    Raises:
        InputError: Beam is not installed, its flags cannot be used, or as for `write_shards`.
    """
    try:
        beam = importlib.import_module("apache_beam")
        pipeline_options = importlib.import_module("apache_beam.options.pipeline_options")
    except ImportError as error:
        raise InputError(
            f"--engine=beam: Apache Beam cannot be imported ({error}); install the extra `beam`: "
            f"pip install 'shardlight[beam]'"
        ) from None
    try:
        options = pipeline_options.PipelineOptions(shlex.split(beam_args))
    except (ValueError, SystemExit) as error:
        raise InputError(f"--beam_args={beam_args}: cannot be read: {error}") from None
    write = partial(
        _write_one, root=root, out=out, rendering=rendering, max_rejects=max_rejects, rejected=tuple(rejected)
    )
    try:
        with beam.Pipeline(options=options) as pipeline:
            _ = pipeline | "plan" >> beam.Create(list(jobs)) | "write" >> beam.Map(write)
    except Exception as error:
        # A runner passes on a worker's exception as text, inside an exception of its own.
        found = re.search(r"InputError: (.*?)(?: \[while running|\\n|\n|$)", str(error))
        if found is None:
            raise
        raise InputError(found[1]) from None
    if missing := [job.name for job in jobs if not _is_there(out, job)]:
        raise InputError(
            f"--out={out}: Beam has finished, but {len(missing)} of {len(jobs)} shards are missing, first "
            f"{missing[0]}; its workers must see this folder under the same path"
        )


def _is_there(out: Path, job: ShardJob) -> bool:
    return (out / job.name).is_file() and (out / (job.name + RESULT_SUFFIX)).is_file()


def _write_one(
    job: ShardJob,
    *,
    root: Path,
    out: Path,
    rendering: Rendering,
    max_rejects: int,
    rejected: tuple[tuple[str, str], ...],
) -> str:
    with Pool(1) as pool:
        write_shards(root, out, [job], rendering, pool=pool, max_rejects=max_rejects, rejected=rejected)
    return job.name


def require_all(out: Path, jobs: Sequence[ShardJob], tasks: int | None) -> None:
    """Raises InputError unless every shard exists with its result.

    Args:
        out: folder of the shards.
        jobs: all shards of the plan.
        tasks: how many tasks write them, to name those to run again; None: not known.
    """
    missing = [(number, job.name) for number, job in enumerate(jobs) if not _is_there(out, job)]
    if not missing:
        return
    names = ", ".join(name for _, name in missing[:_SHOWN]) + ", ..." * (len(missing) > _SHOWN)
    if tasks is None:
        fix = "write them with --task=I/N for each I from 0 to N - 1"
    else:
        again = ", ".join(f"--task={task}/{tasks}" for task in sorted({n % tasks for n, _ in missing}))
        fix = f"run again {again}"
    raise InputError(
        f"--finish: {len(missing)} of {len(jobs)} shards are missing: {names}; {fix}, then --finish again"
    )


def layout_digest(facts: Mapping[str, Any], jobs: Sequence[ShardJob]) -> str:
    """Returns the SHA-256, in hex, of the JSON of `facts` with all `jobs`, keys sorted.

    The JSON is hashed job by job, because that of a million images takes a gigabyte.
    """
    mark = "<the jobs go here>"
    before, _, after = json.dumps({**facts, "jobs": mark}, sort_keys=True).partition(json.dumps(mark))
    digest = hashlib.sha256(f"{before}[".encode())
    for number, job in enumerate(jobs):
        digest.update(b", " * bool(number) + json.dumps(_as_values(job), sort_keys=True).encode())
    digest.update(f"]{after}".encode())
    return digest.hexdigest()


def _as_values(job: ShardJob) -> dict[str, Any]:
    """Returns the same as `dataclasses.asdict`, without copying every value."""
    return {**vars(job), "images": [vars(image) for image in job.images]}
