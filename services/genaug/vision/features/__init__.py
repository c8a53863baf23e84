"""Features of images: computed once, kept in an index in the store, served in order."""
