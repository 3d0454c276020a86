"""One module a format, whose `open_source` gives labels in memory and images within reach."""
