"""The prune stage: drops the edges of a trained network that never, or hardly ever, decide."""
