#!/usr/bin/env bash
# sbatch [flags] slurm/report.sh configs/tinyimagenet.yaml [options of python -m pipeline run]     # the page
#SBATCH --signal=B:USR1@120 --requeue --open-mode=append
. "${SUPNORM_HOME:-$SLURM_SUBMIT_DIR}/slurm/stage.sh" report "$@"
