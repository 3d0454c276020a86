#!/usr/bin/env bash
# sbatch [flags] slurm/prune.sh configs/tinyimagenet.yaml [options of python -m pipeline run]     # edges dropped
#SBATCH --signal=B:USR1@120 --requeue --open-mode=append
. "${SUPNORM_HOME:-$SLURM_SUBMIT_DIR}/slurm/stage.sh" prune "$@"
