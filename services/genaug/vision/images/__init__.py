"""Images in and out: decoding, loading into arrays, data augmentation, provenance metadata."""
