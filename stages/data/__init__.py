"""What the stages share about images: shards, batches, augmentation, records."""
