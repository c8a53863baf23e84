"""Draw images. The noise of each depends on (seed, class, index) alone, so a retry draws the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from genaug.generation.diffusion.denoise import draw_lot
from genaug.generation.generators import Generator
from genaug.generation.generators.transforms.generator import Transforms
from genaug.generation.sampling.receipts import Drawn, Sampler, Wanted
from genaug.shared.errors import Cancelled, InvalidArgument

# Larger shapes are no receipt of ours, and one image in them could take all memory.
_LARGEST_BUCKET = 32


def draw(
    generator: Generator, wanted: Sequence[Wanted], *, sampler: Sampler, active: Callable[[], bool], bucket: int = 0
) -> Iterator[Drawn]:
    """Yield the images of `wanted`, in order, a bucket at a time, with nobody else at work on the device.

    Args:
        wanted: Images of classes that are the generator's.
        active: Asked between denoising steps; once false, drawing stops.
        bucket: Another bucket than the generator's, from a receipt.

    Raises:
        InvalidArgument: the bucket is out of range.
        Cancelled: `active()` turned false; the images yielded so far are whole.
    """
    if isinstance(generator, Transforms):
        for one in wanted:
            if not active():
                raise cancelled()
            yield generator.make(one)
        return
    size = checked_bucket(bucket or generator.bucket_at(sampler.image_size))
    for _, found in groupby(wanted, key=lambda one: generator.variant(one.class_name, sampler)):
        of_variant = list(found)
        for start in range(0, len(of_variant), size):
            lot = draw_lot(generator, of_variant[start : start + size], sampler, bucket=size, active=active)
            if lot is None:
                raise cancelled()
            yield from lot


def checked_bucket(bucket: int) -> int:
    """A bucket that may come from a receipt.

    Raises:
        InvalidArgument: it is out of range.
    """
    if not 1 <= bucket <= _LARGEST_BUCKET:
        raise InvalidArgument(f"receipt.bucket: {bucket} is not within 1 and {_LARGEST_BUCKET}", reason="BAD_RECEIPT")
    return bucket


def cancelled() -> Cancelled:
    """The error for a caller who has left."""
    return Cancelled("drawing was cancelled; what was finished is kept", reason="CANCELLED_BY_CALLER")
