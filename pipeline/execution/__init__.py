"""Runs stages: ranks, signals, the meeting of ranks that a launcher has started."""
