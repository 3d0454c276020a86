"""Proves and attacks every image of a split: `records.csv`, `summary.json`."""
