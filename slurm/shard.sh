#!/usr/bin/env bash
# sbatch [flags] slurm/shard.sh configs/tinyimagenet.yaml [options of python -m pipeline run]     # images to shards
#SBATCH --signal=B:USR1@120 --requeue --open-mode=append
. "${SUPNORM_HOME:-$SLURM_SUBMIT_DIR}/slurm/stage.sh" shard "$@"
