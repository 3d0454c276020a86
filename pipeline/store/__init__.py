"""Artifacts on disk: how they appear, what they record, whether they are up to date."""
