"""`python -m pipeline`: every verb of the command line."""

from pipeline.cli import main

main()
