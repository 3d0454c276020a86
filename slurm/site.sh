# shellcheck shell=bash
# The one file that a site edits. Every job reads it on its first node, pipeline.sh on the login node.

# Modules:
# module load cuda/12.6

# The environment that `make setup` has made:
. "$SUPNORM_HOME/.venv/bin/activate"

# The network that ranks of several nodes meet over (ip -brief address shows the names):
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

# What sbatch needs here, unless a config's `resources:` says otherwise:
# export SBATCH_ACCOUNT=project123 SBATCH_PARTITION=gpu

# Where Prometheus reaches the ranks, if it runs on another machine than they do:
# SUPNORM_METRICS_HOST=$(hostname -I | cut -d ' ' -f 1)
# export SUPNORM_METRICS_HOST
