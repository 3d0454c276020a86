"""One reader a format: raw files to labels in memory and images within reach."""
