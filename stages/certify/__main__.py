"""`python -m stages.certify CONFIG` is short for `python -m pipeline run --kind certify CONFIG`."""

from pipeline.cli import main_of_stage

main_of_stage("certify")
