"""What runs around a pick: messages, recordings and the log of a run."""
