"""Heads of classifiers: layers that turn a backbone's features into logits."""

from __future__ import annotations

from torch import nn

from genaug.schema.classifiers import Head

# The published study's head: dropout before the pooling, then layers of these widths.
DROPOUT = 0.6
_WIDTHS = (256, 128, 64)

# The dense head, that of the published study's frozen labeler and of VGG itself: maps of GRID × GRID places, then two
# layers of this width, each under dropout.
GRID, _DENSE_WIDTH, _DENSE_DROPOUT = 7, 4096, 0.5


def build_head(kind: Head, features: int, classes: int) -> nn.Module:
    """Build a head with initial weights from torch's global generator.

    Args:
        kind: LINEAR and LOGISTIC are one linear layer, which differ in how they are fitted.
        features: Channels of the backbone's maps. The head takes their means [n, features]; a DENSE head takes maps
            [n, features × GRID²], flattened.
        classes: Width of the logits [n, classes].
    """
    if kind == Head.PUBLISHED:
        return _published_head(features, classes)
    return _dense_head(features, classes) if kind == Head.DENSE else nn.Linear(features, classes)


def _dense_head(features: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (features * GRID**2, _DENSE_WIDTH):
        layers += [nn.Linear(before, _DENSE_WIDTH), nn.ReLU(), nn.Dropout(_DENSE_DROPOUT)]
    return nn.Sequential(*layers, nn.Linear(_DENSE_WIDTH, classes))


def _published_head(features: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm1d(features)]
    for before, width in zip((features, *_WIDTHS), _WIDTHS, strict=False):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(_WIDTHS[-1], classes))
