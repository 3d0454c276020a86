"""Losses, a folder each: `config.py` without torch, `loss.py` with its `LOSS`."""
