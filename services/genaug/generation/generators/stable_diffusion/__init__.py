"""Stable Diffusion 1 or 2, fine-tuned on captioned images."""
