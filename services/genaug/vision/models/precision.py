"""What a backbone computes in."""

from __future__ import annotations

from typing import cast

import torch

from genaug.shared.digests import digest_of
from genaug.shared.errors import FailedPrecondition
from genaug.vision.models.backbones import Backbone, Vgg19
from genaug.vision.models.quantized import QuantizedVgg19, Ranges

FLOAT32, BFLOAT16, INT8 = "PRECISION_FLOAT32", "PRECISION_BFLOAT16", "PRECISION_INT8"
PRECISIONS = (FLOAT32, BFLOAT16, INT8)


def not_quantized() -> FailedPrecondition:
    """What whoever asks a classifier for `INT8` is told that was not measured for it."""
    return FailedPrecondition(
        "precision: this classifier was not measured for 8 bits; train a labeler with backbone VGG19 and "
        "labeling.precision INT8",
        reason="NOT_QUANTIZED",
    )


def in_precision(body: Backbone, precision: str, ranges: Ranges) -> Backbone:
    """A backbone that computes in `precision`; for `INT8` another one."""
    if precision == INT8:
        return QuantizedVgg19(cast(Vgg19, body), ranges).eval()
    return body.to(torch.bfloat16 if precision == BFLOAT16 else torch.float32)


def format_words(precision: str, ranges: Ranges) -> list[str]:
    """What a feature space's name says of the number format; 32 bits go without saying."""
    if precision == INT8:
        return ["int8", digest_of("ranges/1", {"ranges": ranges})[:8]]
    return ["bf16"] if precision == BFLOAT16 else []
