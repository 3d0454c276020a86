"""Raw image files to checksummed shards."""
