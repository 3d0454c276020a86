#!/usr/bin/env bash
# sbatch [flags] slurm/stage.sh KIND CONFIG [options of python -m pipeline run]     # the stages of a kind, on all nodes of the job
#SBATCH --signal=B:USR1@120 --requeue --open-mode=append
set -euo pipefail

MAX_RESTARTS=3 # after a crash; a job that was asked to stop may go on as often as it gets further

# $0 is a copy in Slurm's spool, so the scripts' own folder is that of the checkout.
export SUPNORM_HOME="${SUPNORM_HOME:-$SLURM_SUBMIT_DIR}"
. "$SUPNORM_HOME/slurm/site.sh"

main() {
  local kind="$1" before after
  shift
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || set -- "$@" --member "$SLURM_ARRAY_TASK_ID"
  before="$(python -m pipeline job-state --kind "$kind" "$@")"
  say "$(hostname): ${SLURM_JOB_NUM_NODES:-1} nodes, start $((${SLURM_RESTART_COUNT:-0} + 1))"
  run python -m pipeline run --kind "$kind" "$@"
  after="$(python -m pipeline job-state --kind "$kind" "$@")"
  end_job "$before" "$after"
}

# Run the pipeline once, here; it starts its ranks by srun, on all nodes. A request to stop goes on to it.
run() {
  ASKED=""
  trap 'pass_on USR1' USR1
  trap 'pass_on TERM' TERM
  SUPNORM_LAUNCHER=srun PYTHONUNBUFFERED=1 "$@" &
  RUNNER=$!
  while kill -0 "$RUNNER" 2>/dev/null; do wait "$RUNNER" || true; done
}

pass_on() {
  ASKED="$1"
  say "SIG$1: asking the ranks to stop"
  kill -s "$1" "$RUNNER" 2>/dev/null || true
}

# Files say what became of the stage; exit codes get lost between ranks and script.
end_job() {
  local before="$1" after="$2" restarts="${SLURM_RESTART_COUNT:-0}"
  [ "$after" != "done" ] || exit 0
  if [ "$ASKED" = TERM ]; then
    say "stopped; Slurm decides whether the job goes on"
  elif [ "$before" = "$after" ]; then
    say "it got no further in this start: broken, not requeued"
  elif [ -z "$ASKED" ] && [ "$restarts" -ge "$MAX_RESTARTS" ]; then
    say "crashed after $restarts restarts: not requeued"
  elif scontrol requeue "$SLURM_JOB_ID"; then
    trap '' TERM
    say "requeued: it goes on where it stopped"
    exit 0
  fi
  exit 1
}

say() { printf '%(%Y-%m-%d %H:%M:%S)T job %s: %s\n' -1 "$SLURM_JOB_ID" "$1"; }

main "$@"
