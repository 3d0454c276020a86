"""Turns the records of a run into one self-contained page and its Markdown and JSON twins."""
