"""`python -m stages.certify CONFIG`: the certify stages of a pipeline, and nothing else of it."""

from pipeline.cli import main_of_stage

main_of_stage("certify")
