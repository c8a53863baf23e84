"""Draw images. The noise of each depends on (seed, class, index) alone, so a retry draws the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from genaug.generation.generators import Generator
from genaug.generation.receipts import Drawn, Sampler, Wanted
from genaug.shared.errors import Cancelled, InvalidArgument

# Larger shapes are no receipt of ours.
_LARGEST_BUCKET = 1024


def draw(
    generator: Generator, wanted: Sequence[Wanted], *, sampler: Sampler, active: Callable[[], bool], bucket: int = 0
) -> Iterator[Drawn]:
    """Yield the images of `wanted`, in order, as their batches finish.

    Every batch is padded to the generator's bucket: an image's decoded pixels do not depend on who shares its batch.

    Args:
        wanted: Images of classes that are the generator's.
        active: Asked between denoising steps; once false, drawing stops.
        bucket: Another bucket than the generator's, from a receipt.

    Raises:
        InvalidArgument: the bucket is out of range.
        Cancelled: `active()` turned false; the images yielded so far are whole.
    """
    size = bucket or generator.bucket
    if not 1 <= size <= _LARGEST_BUCKET:
        raise InvalidArgument(f"receipt.bucket: {size} is not within 1 and {_LARGEST_BUCKET}", reason="BAD_RECEIPT")
    for start in range(0, len(wanted), size):
        batch = generator.make(wanted[start : start + size], sampler=sampler, bucket=size, active=active)
        if batch is None:
            raise Cancelled("drawing was cancelled; what was finished is kept", reason="CANCELLED_BY_CALLER")
        yield from batch
