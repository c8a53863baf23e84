"""Import, seal and assembly of datasets."""
