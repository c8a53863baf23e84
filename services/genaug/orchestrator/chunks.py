"""Number of images to draw of each class, and the chunks of work that they are drawn in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from genaug.schema.common import ClassCount
from genaug.schema.generators import Batch, GeneratorKind, Rejection, RejectionReason
from genaug.schema.requests import GenerateRequest, SamplerSettings
from genaug.schema.run import GenerationSpec

# Surplus of the first round, for images that will be rejected.
_SPARE = 1.2
# Images of each class, at most, that two sets of captions are compared by: intervals of some ± 12 points.
_COMPARED = 64


def top_up(needed: dict[str, int], kept: dict[str, int], drawn: dict[str, int], *, limit: float) -> dict[str, int]:
    """Number of images of each class to draw in the next round: enough at the acceptance rate so far.

    Args:
        needed: Images that the largest dose asks for.
        kept: Images accepted so far, and usable.
        drawn: Images drawn so far.
        limit: Most draws per image needed, over all rounds.
    """
    counts = {}
    for name, target in needed.items():
        short = target - kept[name]
        # A class with only rejected images is drawn at an assumed rate of one in ten, not without bound.
        rate = max(kept[name] / drawn[name], 0.1) if drawn[name] else 1.0
        count = min(math.ceil(short * _SPARE / rate), math.ceil(limit * target) - drawn[name])
        if short > 0 and count > 0:
            counts[name] = count
    return counts


def compared_counts(needed: dict[str, int], *, limit: float) -> dict[str, int]:
    """Images of each class to draw with a second set of captions: the first round's, at most 64."""
    none = dict.fromkeys(needed, 0)
    return {name: min(count, _COMPARED) for name, count in top_up(needed, none, none, limit=limit).items()}


def chunk_size(kind: GeneratorKind, image_size: int) -> int:
    """Images of one chunk: some tens of seconds on a small CPU.

    A chunk holds one of a few places until it is drawn and labelled.
    """
    return 256 if kind.chunk >= 64 and image_size <= 16 else kind.chunk


def draw_requests(
    generation: GenerationSpec, generator: str, counts: Mapping[str, int], first: Mapping[str, int], *, size: int
) -> list[GenerateRequest]:
    """Requests that draw `counts` images of each class, in chunks.

    Args:
        generation: The run's, completed.
        generator: "generators/{digest}".
        counts: Images per class.
        first: Index of the first of them, by class.
        size: Most images of a chunk.
    """
    assert generation.seed is not None  # noqa: S101  # completed
    return [
        GenerateRequest(
            generator=generator,
            counts=(ClassCount(class_name=name, count=min(size, count - start)),),
            seed=generation.seed,
            first_index=first[name] + start,
            sampler=SamplerSettings.of(generation.sampler()),
        )
        for name, count in counts.items()
        for start in range(0, count, size)
    ]


def rejections(batches: Iterable[Batch]) -> tuple[Rejection, ...]:
    """Rejected draws, summed over batches by class and reason."""
    sums: Counter[tuple[str, RejectionReason]] = Counter()
    for batch in batches:
        for entry in batch.rejected:
            sums[entry.class_name, entry.reason] += entry.count
    return tuple(
        Rejection(class_name=name, reason=reason, count=count) for (name, reason), count in sorted(sums.items())
    )
