"""Number formats that backbones compute in."""

from __future__ import annotations

import torch

from genaug.schema.common import Precision
from genaug.shared.digests import digest_of
from genaug.shared.errors import FailedPrecondition
from genaug.vision.models import quantized
from genaug.vision.models.backbones import Backbone
from genaug.vision.models.quantized import Ranges


def not_quantized() -> FailedPrecondition:
    """Error: this classifier has no INT8 calibration."""
    return FailedPrecondition(
        "precision: this classifier was not measured for 8 bits; train a labeler with backbone VGG19 and "
        "labeling.precision INT8",
        reason="NOT_QUANTIZED",
    )


def in_precision(backbone: Backbone, precision: Precision, ranges: Ranges) -> Backbone:
    """Return a backbone that computes in `precision`; for INT8 a new one."""
    if precision == Precision.INT8:
        return quantized.convert(backbone, ranges)
    return backbone.to(torch.bfloat16 if precision == Precision.BFLOAT16 else torch.float32)


def format_words(precision: Precision, ranges: Ranges) -> list[str]:
    """Words for the number format in a feature space's name; none for float32."""
    if precision == Precision.INT8:
        return ["int8", digest_of("ranges/1", {"ranges": ranges})[:8]]
    return ["bf16"] if precision == Precision.BFLOAT16 else []
