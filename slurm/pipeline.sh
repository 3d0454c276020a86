#!/usr/bin/env bash
# bash slurm/pipeline.sh configs/tinyimagenet.yaml [-- flags of sbatch]     # the whole chain of stages
set -euo pipefail
SUPNORM_HOME="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export SUPNORM_HOME
. "$SUPNORM_HOME/slurm/site.sh"
exec python -m pipeline submit "$@"
