"""Stages that do almost nothing, to see what the pipeline does with them."""
