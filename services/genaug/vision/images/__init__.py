"""Images in and out: decoding, loading into arrays, data augmentation, provenance metadata."""

from genaug.vision.images.pixels import decode

__all__ = ["decode"]
