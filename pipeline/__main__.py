"""`python -m pipeline`: check, plan, run and status."""

from pipeline.cli import main

main()
