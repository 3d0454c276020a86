#!/usr/bin/env bash
# sbatch [flags] slurm/certify.sh configs/tinyimagenet.yaml [options of python -m pipeline run]     # every image certified and attacked
#SBATCH --signal=B:USR1@120 --requeue --open-mode=append
. "${SUPNORM_HOME:-$SLURM_SUBMIT_DIR}/slurm/stage.sh" certify "$@"
