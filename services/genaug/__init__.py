"""Diffusion-based augmentation of imbalanced image data, with an honest verdict."""

__version__ = "0.1.0"
