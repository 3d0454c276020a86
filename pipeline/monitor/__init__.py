"""What a run says of itself: progress, metrics, the console."""
