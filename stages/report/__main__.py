"""`python -m stages.report CONFIG` is short for `python -m pipeline run --kind report CONFIG`."""

from pipeline.cli import main_of_stage

main_of_stage("report")
