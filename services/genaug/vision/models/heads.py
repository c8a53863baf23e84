"""The heads of classifiers: what turns a backbone's features into logits."""

from __future__ import annotations

from torch import nn

LINEAR, PUBLISHED, LOGISTIC, DENSE = "HEAD_LINEAR", "HEAD_PUBLISHED", "HEAD_LOGISTIC", "HEAD_DENSE"

# The published study's: dropout before the pooling, then these widths.
DROPOUT = 0.6
_WIDTHS = (256, 128, 64)

# The dense head's, which is that of the published study's frozen labeler and of VGG itself: it stands on maps of so
# many places a side, through two layers this wide, each under dropout.
GRID, _DENSE_WIDTH, _DENSE_DROPOUT = 7, 4096, 0.5


def build_head(kind: str, features: int, classes: int) -> nn.Module:
    """A head, with weights that torch's generator draws.

    Args:
        kind: `LINEAR`, `PUBLISHED`, `LOGISTIC` (linear, fitted otherwise) or `DENSE`.
        features: Channels of the backbone's maps. It takes their means [n, features]; `DENSE` takes maps
            [n, features × GRID²], flattened.
        classes: It gives logits [n, classes].
    """
    if kind == PUBLISHED:
        return _published_head(features, classes)
    return _dense_head(features, classes) if kind == DENSE else nn.Linear(features, classes)


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
