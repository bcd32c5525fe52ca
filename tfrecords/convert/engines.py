"""Ways to carry out one plan: all cores here, Apache Beam, or the tasks of an array job.

Every way writes the same shards, for a shard's bytes follow from its job alone, and leaves beside each
shard what was found in it. The conversion then takes what it finds and seals it.
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
    """Who writes the shards.

    Attributes:
        name: "local", or "beam": the runner that `beam_args` name.
        beam_args: Apache Beam's own flags, as on a command line.
        task: (I, N): only the shards I, I + N, I + 2 N ... of the plan are written, and nothing is sealed.
        finish: write no shard; seal what the tasks have written.

    Raises:
        InputError: an unknown name, a task that cannot be, or two ways at once.
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
                f"--beam_args={self.beam_args}: are for --engine=beam only; add it or leave them"
            )
        if self.task is not None and not 0 <= self.task[0] < self.task[1]:
            raise InputError(
                f"--task={self.task[0]}/{self.task[1]}: must be I/N with I from 0 to N - 1, as 0/8 to 7/8"
            )
        if self.task is not None and (self.finish or self.name == "beam"):
            raise InputError(
                "--task with --finish or --engine=beam: a task writes its shards with the cores of its own "
                "machine, and --finish comes once, after all tasks; leave one of them out"
            )
        if self.finish and self.name == "beam":
            raise InputError("--finish with --engine=beam: beam seals what it wrote; leave --finish out")


def parse_task(text: str) -> tuple[int, int]:
    """Returns (I, N) from `I/N`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match:
        raise InputError(f"--task={text}: must be I/N with I from 0 to N - 1, as 0/8 to 7/8")
    return int(match[1]), int(match[2])


def jobs_of(task: tuple[int, int], jobs: Sequence[ShardJob]) -> list[ShardJob]:
    """Returns the jobs of a task (I, N): those whose index in the plan leaves I when divided by N."""
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
    """Writes the shards that are not there yet with Apache Beam, each shard job one element.

    Beam's workers must see both folders under the same paths and find this package. Each job is a part of
    the pipeline's graph, so a runner that limits the graph's size limits the images of a conversion.

    Args:
        root: see `write_shards`, as the rest.
        out: see there.
        jobs: see there.
        rendering: see there.
        beam_args: Beam's own flags.
        max_rejects: see there; checked for each shard by itself.
        rejected: see there.

    Raises:
        InputError: Beam is not installed, its flags cannot be used, or as `write_shards`.
    """
    try:
        beam = importlib.import_module("apache_beam")
        pipeline_options = importlib.import_module("apache_beam.options.pipeline_options")
    except ImportError as error:
        raise InputError(
            f"--engine=beam: Apache Beam cannot be loaded ({error}); install the extra `beam`: "
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
        # A runner hands over a worker's exception as text, in an exception of its own.
        found = re.search(r"InputError: (.*?)(?: \[while running|\\n|\n|$)", str(error))
        if found is None:
            raise
        raise InputError(found[1]) from None
    if missing := [job.name for job in jobs if not _is_there(out, job)]:
        raise InputError(
            f"--out={out}: Beam is done, but {len(missing)} of {len(jobs)} shards are not there, first "
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
    """Raises InputError unless every shard and what was found in it are there.

    Args:
        out: folder of the shards.
        jobs: the plan.
        tasks: how many tasks write it, to say which of them to run again; None if that is not known.
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
        f"--finish: {len(missing)} of {len(jobs)} shards are not there: {names}; {fix}, then --finish again"
    )


def layout_digest(facts: Mapping[str, Any], jobs: Sequence[ShardJob]) -> str:
    """Returns the SHA-256, in hex, of the JSON of `facts` with all `jobs`, keys sorted.

    It is fed job by job: the JSON of a million images takes a gigabyte.
    """
    mark = "<the jobs go here>"
    before, _, after = json.dumps({**facts, "jobs": mark}, sort_keys=True).partition(json.dumps(mark))
    digest = hashlib.sha256(f"{before}[".encode())
    for number, job in enumerate(jobs):
        digest.update(b", " * bool(number) + json.dumps(_as_values(job), sort_keys=True).encode())
    digest.update(f"]{after}".encode())
    return digest.hexdigest()


def _as_values(job: ShardJob) -> dict[str, Any]:
    """Returns what `dataclasses.asdict` does, without its copy of every value."""
    return {**vars(job), "images": [vars(image) for image in job.images]}
