"""A clipped worst-case margin plus a fading cross-entropy."""
