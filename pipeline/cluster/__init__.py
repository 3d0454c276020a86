"""Slurm: jobs of a pipeline, and how they stand."""
