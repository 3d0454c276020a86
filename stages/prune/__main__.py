"""`python -m stages.prune CONFIG`: the prune stages of a pipeline, and nothing else of it."""

from pipeline.cli import main_of_stage

main_of_stage("prune")
