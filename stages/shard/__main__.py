"""`python -m stages.shard CONFIG`: the shard stages of a pipeline, and nothing else of it."""

from pipeline.cli import main_of_stage

main_of_stage("shard")
