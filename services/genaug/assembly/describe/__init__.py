"""Description of a dataset: classes, subjects, image quality, and the leakage of a split by image."""
