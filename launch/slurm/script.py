"""Writes a job as a batch script; the script needs only `launch.worker` of this package."""

import re
import shlex
from typing import Final

from launch.exits import PEER_LOST, STOPPED
from launch.slurm.options import Job

# The script replaces these variables inside the words of the command: each task of an array has other values.
_OF_ARRAYS: Final = re.compile(
    r"\$(?:SLURM_ARRAY_(?:TASK_(?:ID|COUNT|MIN|MAX|STEP)|JOB_ID)|SLURM_JOB_ID)\b"
    r"|\$\{(?:SLURM_ARRAY_(?:TASK_(?:ID|COUNT|MIN|MAX|STEP)|JOB_ID)|SLURM_JOB_ID)\}"
)

_BODY: Final = r"""
max_restarts=@MAX_RESTARTS@
say() { echo "$(date '+%F %T') $*"; }
state() { say "$*"; echo "$*" >"$logs/.state.tmp" && mv "$logs/.state.tmp" "$logs/state"; }
finish() { state "ended with code $1"; exit "$1"; }

# What to do after a stop. Slurm's own state of this job decides: requeued, again or cancelled.
next() {
  local job
  until job=$(scontrol show job -o "$SLURM_JOB_ID"); do sleep 5; done # Slurm does not answer at the moment
  case " $job " in
    *" Restarts=$((${SLURM_RESTART_COUNT:-0} + 1)) "*) echo requeued ;; # by Slurm
    *" JobState=RUNNING "* | *" Reason=TimeLimit "* | *" PreemptTime=2"*) echo again ;;
    *) echo cancelled ;;
  esac
}

go_on_later() {
  case $(next) in
    requeued) state "requeued by Slurm"; exit @STOPPED@ ;;
    cancelled) state "cancelled"; exit @STOPPED@ ;;
  esac
@AGAIN@
}

# Starts the command in all tasks, waits for them, and sets $code to the code of the task that failed first.
run() {
  rm -f "$logs"/rank-*.json
  srun @SRUN@ &
  local srun=$!
  told=
  wait "$srun"
  while kill -0 "$srun" 2>/dev/null; do # a signal interrupts bash's wait; the tasks still save
    if [ -n "$told" ] && [ $((SECONDS - told)) -ge "$patience" ] && [ "$(next)" = again ]; then
      code=@STOPPED@ # Slurm is about to kill the tasks: their last checkpoint counts
      return
    fi
    sleep 1
  done
  wait "$srun"
  code=$?
  [ "$code" = 0 ] && return
  # srun ends the other tasks when one fails, so its code says little. Each task wrote its own code and time.
  local ends try
  for try in 1 2 3 4 5; do
    ends=$(cat "$logs"/rank-*.json 2>/dev/null |
      sed -n 's/^{"ended": \([0-9.]*\), "code": \([0-9]*\),.*/\1 \2/p' | sort -n)
    [ "$(grep -c . <<<"$ends")" -ge @PROCESSES@ ] && break
    sleep 1 # a shared disk may show these files a little later
  done
  [ -z "$ends" ] && return
  code=$(awk '$2 != 0 { print $2; exit }' <<<"$ends")
  [ -z "$code" ] && code=0
  # A task that wrote nothing was killed together with its launcher.
  if [ "$code" = 0 ] || [ "$code" = @PEER_LOST@ ]; then
    [ "$(wc -l <<<"$ends")" -lt @PROCESSES@ ] && code=137
  fi
}

# Slurm sends TERM when it ends the job. The tasks get it too. This script waits for them, but not longer than
# Slurm does (KillWait).
trap 'told=${told:-$SECONDS}' TERM
patience=$(scontrol show config | awk '$1 == "KillWait" { print $3 }')
patience=$((${patience:-30} > 8 ? ${patience:-30} - 4 : 4))

while :; do
  # A start counts as futile if the start before it saved nothing new.
  saved=$(cat "$LAUNCH_PROGRESS" 2>/dev/null)
  starts=0 futile=0 before=
  [ -e "$logs/starts" ] && read -r starts futile before <"$logs/starts"
  if [ "$starts" -gt 0 ] && [ "$saved" = "$before" ]; then futile=$((futile + 1)); else futile=0; fi
  if [ "$futile" -gt "$max_restarts" ]; then
    say "not started again: $futile starts in a row saved nothing new (--max_restarts=$max_restarts)"
    finish "$(cat "$logs/code" 2>/dev/null || echo 1)"
  fi
  starts=$((starts + 1))
  echo "$starts $futile $saved" >"$logs/.starts.tmp" && mv "$logs/.starts.tmp" "$logs/starts"

  state "running, start $starts, job $SLURM_JOB_ID on $SLURM_JOB_NODELIST"
  run
  echo "$code" >"$logs/code"
  case $code in
    0 | 3) state "ended with code $code"; exit 0 ;; # 3: done; the log lists what was left out
    @STOPPED@ | 143) go_on_later ;;
    129 | 1[3-9]? | @PEER_LOST@) # a task was lost, or signal CODE - 128 ended it
      [ "$code" = 130 ] && finish 130
      if [ -n "$told" ] || [ "$(next)" != again ]; then go_on_later; fi
      say "code $code: a task was lost, so all tasks are started again" ;;
    *) finish "$code" ;;
  esac
done
"""

_REQUEUE: Final = """\
  state "requeued, to continue from the last checkpoint"
  for try in 1 2 3; do
    if scontrol requeue "$SLURM_JOB_ID"; then
      while :; do sleep 60; done # until Slurm ends this script
    fi
    sleep 5
  done
  say "this site allows no requeue: submit the job with --resubmit, or continue it now: sbatch $logs/job.sh"
  finish @STOPPED@"""

_RESUBMIT: Final = """\
  job=$SLURM_JOB_ID
  export LAUNCH_LOGS=$logs
  for name in ${!SLURM_*}; do [ "$name" = SLURM_CONF ] || unset "$name"; done # they belong to this job
  if next=$(sbatch --parsable --open-mode=append --output="$logs/batch.log" "$logs/job.sh"); then
    echo "${next%%;*}" >>"$logs/jobs"
    state "submitted again as job ${next%%;*}, to continue from the last checkpoint of job $job"
    exit @STOPPED@
  fi
  finish @STOPPED@"""


def render(job: Job, made_by: str) -> str:
    """Returns the batch script.

    Args:
        job: the job.
        made_by: the command line that asked for the job; it is a comment in the script.
    """
    parts = [
        "#!/bin/bash",
        *(f"# {line}" for line in f"Made by: {made_by}".splitlines()),
        "# It also works by hand: sbatch FILE",
        *(f"#SBATCH {option}" for option in _options(job)),
        "",
        f"logs={_logs(job)}",
        'mkdir -p "$logs" || exit 2',
        f"cd {shlex.quote(str(job.folder))} || exit 2",
        'export LAUNCH_PROGRESS="$logs/progress" # the command writes into this file how far it has saved',
        "unset TF_CONFIG # each task gets its own, not that of the shell that submitted the job",
        *(f"export {name}={shlex.quote(value)}" for name, value in job.environment),
        *job.setup,
    ]
    body = _BODY.replace("@AGAIN@", _RESUBMIT if job.resubmit else _REQUEUE)
    for name, value in {
        "@MAX_RESTARTS@": str(job.max_restarts),
        "@SRUN@": _srun(job),
        "@STOPPED@": str(STOPPED),
        "@PEER_LOST@": str(PEER_LOST),
        "@PROCESSES@": str(job.processes),
    }.items():
        body = body.replace(name, value)
    return "\n".join(parts) + "\n" + body


def _options(job: Job) -> list[str]:
    """Returns the options of sbatch."""
    values = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": job.tasks_per_node,
        "gpus-per-node": job.gpus_per_node or None,
        "cpus-per-task": job.cpus_per_task,
        "mem": job.mem,
        "time": job.time,
        "partition": job.partition,
        "account": job.account,
        "qos": job.qos,
        "constraint": job.constraint,
        "array": job.array,
        "dependency": ":".join(["afterok", *map(str, job.after)]) if job.after else None,
        "kill-on-invalid-dep": "yes" if job.after else None,
        "signal": f"TERM@{job.grace}" if job.grace else None,
    }
    given = [f"--{name}={_directive(value)}" for name, value in values.items() if value is not None]
    return [*given, "--open-mode=append", "--requeue", *job.sbatch_args]


def _directive(value: object) -> str:
    """Returns a value for an #SBATCH line, in quotes if it needs them."""
    text = str(value)
    return (
        text
        if re.fullmatch(r"[\w@%+=:,./*&|()\[\]-]*", text)
        else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
    )


def _logs(job: Job) -> str:
    """Returns the folder of the job as a word of shell; each task of an array has its own folder."""
    if job.log_dir:
        folder = shlex.quote(str(job.log_dir))
    else:
        folder = shlex.quote(str(job.folder / "launch")) + "/${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"
    if job.array:
        folder += "/task-$SLURM_ARRAY_TASK_ID"
    return f"${{LAUNCH_LOGS:-{folder}}}" if job.resubmit else folder


def _srun(job: Job) -> str:
    """Returns the options of srun and the command of each task."""
    options = ["--kill-on-bad-exit=1"]
    worker = [job.python, "-m", "launch.worker"]
    if job.cpus_per_task:
        options.append(f"--cpus-per-task={job.cpus_per_task}")  # srun does not inherit this from the job
    if job.gpus_per_node and job.tasks_per_node > 1:
        options.append("--gpu-bind=none")  # each task uses its own GPUs but sees all: NCCL needs that
        worker.append(f"--devices_per_process={job.gpus_per_node // job.tasks_per_node}")
    own = " ".join([*options, *map(shlex.quote, worker), '--log_dir="$logs"', "--"])
    return f"{own} \\\n    {' '.join(_word(word) for word in job.command)}"


def _word(word: str) -> str:
    """Returns a word of the command for the shell; all but the variables of an array is quoted."""
    if not _OF_ARRAYS.search(word):
        return shlex.quote(word)
    found, end = "", 0
    for match in _OF_ARRAYS.finditer(word):
        found += _in_double_quotes(word[end : match.start()]) + match[0]
        end = match.end()
    return f'"{found}{_in_double_quotes(word[end:])}"'


def _in_double_quotes(text: str) -> str:
    return re.sub(r'(["\\$`])', r"\\\1", text)
