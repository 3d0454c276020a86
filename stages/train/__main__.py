"""`python -m stages.train CONFIG` is short for `python -m pipeline run --kind train CONFIG`."""

from pipeline.cli import main_of_stage

main_of_stage("train")
