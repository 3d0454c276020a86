# shellcheck shell=bash
# What every job script shares: the environment, the rendezvous, srun, and what the end of a job means.
set -euo pipefail

MAX_RESTARTS=3 # after a crash; a job that was asked to stop may go on as often as it gets further

# $0 is a copy in Slurm's spool, so the scripts' own folder is that of the checkout.
export SUPNORM_HOME="${SUPNORM_HOME:-$SLURM_SUBMIT_DIR}"
. "$SUPNORM_HOME/slurm/site.sh"

# run_stage KIND CONFIG [OPTIONS]: run the stages of a kind on all nodes of the job, and end the job.
run_stage() {
  local kind="$1"
  shift
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || set -- "$@" --member "$SLURM_ARRAY_TASK_ID"
  local before after
  before="$(python -m pipeline job-state --kind "$kind" "$@")"
  _meet
  _say "$(hostname): ${SLURM_JOB_NUM_NODES:-1} nodes, start $((${SLURM_RESTART_COUNT:-0} + 1))"
  _run python -m pipeline run --kind "$kind" "$@"
  after="$(python -m pipeline job-state --kind "$kind" "$@")"
  _end_job "$before" "$after"
}

# Where ranks meet: the first node by its address, for a node's name need not resolve.
_meet() {
  local node
  node="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
  node="${node%%$'\n'*}"
  MASTER_ADDR="$(scontrol show node --oneliner "$node" | sed -E 's/.* NodeAddr=([^ ]+) .*/\1/')"
  MASTER_PORT=$((12000 + SLURM_JOB_ID % 20000)) # below the ports that systems hand out
  export MASTER_ADDR MASTER_PORT
}

# Start the ranks and wait for them; a signal to this script goes on to them.
_run() {
  local flags=(--kill-on-bad-exit=1 --input=none)
  # Given by hand without a number of tasks: a rank a GPU, else one a node.
  [ -n "${SLURM_NTASKS:-}" ] || flags+=("--ntasks-per-node=${SLURM_GPUS_ON_NODE:-1}")
  [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}" PYTHONUNBUFFERED=1
  ASKED=""
  trap '_pass_on USR1' USR1
  trap 'ASKED=TERM' TERM # from Slurm, which has told the ranks itself
  srun "${flags[@]}" "$@" &
  SRUN=$!
  while kill -0 "$SRUN" 2>/dev/null; do wait "$SRUN" || true; done
}

_pass_on() {
  ASKED="$1"
  _say "SIG$1: asking the ranks to stop"
  kill -s "$1" "$SRUN" 2>/dev/null || true
}

# Files say what became of the stage; exit codes get lost between ranks and script.
_end_job() {
  local before="$1" after="$2" restarts="${SLURM_RESTART_COUNT:-0}"
  [ "$after" != "done" ] || exit 0
  if [ "$ASKED" = TERM ]; then
    _say "stopped; Slurm decides whether the job goes on"
  elif [ "$before" = "$after" ]; then
    _say "it got no further in this start: broken, not requeued"
  elif [ -z "$ASKED" ] && [ "$restarts" -ge "$MAX_RESTARTS" ]; then
    _say "crashed after $restarts restarts: not requeued"
  elif scontrol requeue "$SLURM_JOB_ID"; then
    trap '' TERM
    _say "requeued: it goes on where it stopped"
    exit 0
  fi
  exit 1
}

_say() { printf '%(%Y-%m-%d %H:%M:%S)T job %s: %s\n' -1 "$SLURM_JOB_ID" "$1"; }
