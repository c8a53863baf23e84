"""Traditional data augmentation by label-preserving transforms."""
