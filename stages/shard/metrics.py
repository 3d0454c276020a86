"""What the shard stage shows to Prometheus."""

from pipeline.monitor.metrics import counter

SHARDS = counter("supnorm_shard_shards_total", "Shards written.", "split")
IMAGES = counter("supnorm_shard_images_total", "Images written to shards.", "split")
