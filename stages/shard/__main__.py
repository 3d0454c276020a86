"""`python -m stages.shard CONFIG` is short for `python -m pipeline run --kind shard CONFIG`."""

from pipeline.cli import main_of_stage

main_of_stage("shard")
