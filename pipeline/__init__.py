"""Runs the stages of a pipeline in order; knows nothing of networks."""
