#!/usr/bin/env bash
# sbatch [flags] slurm/train.sh configs/tinyimagenet.yaml [options of python -m pipeline run]     # training
#SBATCH --signal=B:USR1@120 --requeue --open-mode=append
. "${SUPNORM_HOME:-$SLURM_SUBMIT_DIR}/slurm/stage.sh" train "$@"
