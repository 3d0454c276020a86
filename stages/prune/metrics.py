"""What the prune stage shows to Prometheus."""

from pipeline.monitor.metrics import gauge

EDGES = gauge("supnorm_prune_edges", "Edges of the network: before, and kept.", "which")
