"""Backbone "GABOR": one layer of random filters, for tiny images."""

from __future__ import annotations

from genaug.schema.classifiers import BackboneInfo

ENTRY = BackboneInfo("genaug_example.backbone_network:GABOR", 8, 64, 0, pretrained=False)
