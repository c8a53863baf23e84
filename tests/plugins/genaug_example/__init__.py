"""An extension of genaug: one generator kind, backbone, importer, metric and export layout."""
