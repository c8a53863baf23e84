"""The network of backbone "GABOR"; imported by the Jobs and services that need torch."""

from __future__ import annotations

from torch import nn

from genaug.vision.models.backbones import Backbone, BackboneKind

FEATURES = 24


class Gabor(Backbone):
    """3×3 filters, a rectifier, and means over quarters of the image."""

    def __init__(self, image_size: int, channels: int) -> None:
        super().__init__(FEATURES, mean=[127.5] * channels, std=[127.5] * channels)
        self.network = nn.Sequential(nn.Conv2d(channels, FEATURES, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2))


GABOR = BackboneKind("GABOR", FEATURES, Gabor, channels=0)
