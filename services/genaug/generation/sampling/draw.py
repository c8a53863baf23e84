"""Draw images. The noise of each depends on (seed, class, index) alone, so a retry draws the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Protocol, runtime_checkable

from genaug.generation.diffusion.denoise import Denoiser, draw_batch
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.schema.sampling import Sampler
from genaug.shared.errors import Cancelled, InvalidArgument

# No generator has a larger one, and one image in a larger batch could take all memory.
_MAX_BUCKET = 32


@runtime_checkable
class DirectGenerator(Protocol):
    """A generator that makes each image at once, without denoising steps."""

    def make(self, request: ImageRequest) -> DrawnImage:
        """Make one image."""


def draw(
    generator: Denoiser | DirectGenerator,
    requests: Sequence[ImageRequest],
    *,
    sampler: Sampler,
    is_active: Callable[[], bool],
    bucket: int = 0,
) -> Iterator[DrawnImage]:
    """Yield the requested images, in order, a bucket at a time. The device must be idle otherwise.

    Args:
        generator: The generator.
        requests: Images of the generator's classes.
        sampler: Sampler settings; a `DirectGenerator` ignores them.
        is_active: Called between denoising steps; drawing stops once it returns False.
        bucket: Bucket from a receipt, instead of the generator's.

    Raises:
        InvalidArgument: the bucket is out of range.
        Cancelled: `is_active()` turned False; the images yielded so far are whole.
    """
    if isinstance(generator, DirectGenerator):
        for request in requests:
            if not is_active():
                raise cancelled()
            yield generator.make(request)
        return
    size = checked_bucket(bucket or generator.bucket_at(sampler.image_size))
    for _, group in groupby(requests, key=lambda request: generator.variant(request.class_name, sampler)):
        same_variant = list(group)
        for start in range(0, len(same_variant), size):
            part = same_variant[start : start + size]
            images = draw_batch(generator, part, sampler, bucket=size, is_active=is_active)
            if images is None:
                raise cancelled()
            yield from images


def checked_bucket(bucket: int) -> int:
    """Return a bucket that may come from a receipt.

    Raises:
        InvalidArgument: it is out of range.
    """
    if not 1 <= bucket <= _MAX_BUCKET:
        raise InvalidArgument(f"receipt.bucket: {bucket} is not within 1 and {_MAX_BUCKET}", reason="BAD_RECEIPT")
    return bucket


def cancelled() -> Cancelled:
    """The error for a caller that is gone."""
    return Cancelled("drawing was cancelled; what was finished is kept", reason="CANCELLED_BY_CALLER")
