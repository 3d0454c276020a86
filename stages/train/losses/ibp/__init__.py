"""The cross-entropy of worst-case logits."""
