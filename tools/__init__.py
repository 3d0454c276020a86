"""Verbs of the command line beside the stages; one file each."""
