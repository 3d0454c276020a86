"""`python -m stages.prune CONFIG` is short for `python -m pipeline run --kind prune CONFIG`."""

from pipeline.cli import main_of_stage

main_of_stage("prune")
