"""Classifier networks: backbones, heads, number formats, weights, and the trained artifact."""
